//! Streams of the bulk channel beside a model that keeps every byte.

use std::collections::BTreeMap;

use medley_wire::Dice;
use medley_wire::bulk::{Broken, Chunk, End, FromGuest, Intake, Open};
use medley_wire::limits::STREAMS;

use super::Target;

pub const TARGET: Target = Target {
    name: "wire_intake",
    about: "a guest's streams on the bulk channel: each has the size it announced and no gap, beside a model",
    max_len: 4096,
    run,
};

/// What a stream announced, and what came of it.
struct Stream {
    size: u64,
    come: u64,
}

fn run(bytes: &[u8]) {
    let mut dice = Dice::new(bytes);
    let mut intake = Intake::default();
    let mut model: BTreeMap<u8, Stream> = BTreeMap::new();
    while !dice.is_empty() {
        let limit = [0, 9, 300, 1 << 20, u64::MAX][dice.below(5) as usize];
        // What is made up hardly ever fits what came before; mostly it is made to.
        let fits = dice.below(4) != 0;
        let Some(message) = dice.message::<FromGuest<'static>>() else {
            return;
        };
        match message {
            FromGuest::Open(mut open) => {
                if fits {
                    open.stream %= STREAMS as u8 + 1;
                    open.size = medley_wire::Untrusted::claim(dice.below(600).into());
                }
                opened(&mut intake, &mut model, &open, limit);
            }
            FromGuest::Chunk(mut chunk) => {
                if fits {
                    chunk.stream %= STREAMS as u8;
                    chunk.offset = model.get(&chunk.stream).map_or(0, |stream| stream.come);
                }
                chunked(&mut intake, &mut model, &chunk);
            }
            FromGuest::End(mut end) => {
                if fits {
                    end.stream %= STREAMS as u8;
                    end.size = model.get(&end.stream).map_or(0, |stream| stream.size);
                }
                ended(&mut intake, &mut model, &end);
            }
            FromGuest::Cancel(cancel) => {
                let was = model.remove(&cancel.stream);
                let is = intake.cancel(cancel.stream);
                assert_eq!(
                    is.map(|coming| (coming.size, coming.come)),
                    was.map(|stream| (stream.size, stream.come))
                );
            }
            _ => {}
        }
        assert!(model.len() <= STREAMS);
    }
}

fn opened(intake: &mut Intake, model: &mut BTreeMap<u8, Stream>, open: &Open, limit: u64) {
    let known = usize::from(open.stream) < STREAMS;
    let taken = model.contains_key(&open.stream);
    let size = open.size.at_most(limit);
    let expected = match (known, taken, size) {
        (false, ..) => Err(Broken::Number),
        (_, true, _) => Err(Broken::Open),
        (.., None) => Err(Broken::TooLarge),
        (.., Some(size)) => Ok(size),
    };
    assert_eq!(intake.open(open, limit), expected.map(drop));
    if let Ok(size) = expected {
        model.insert(open.stream, Stream { size, come: 0 });
    }
}

fn chunked(intake: &mut Intake, model: &mut BTreeMap<u8, Stream>, chunk: &Chunk<'_>) {
    let coming = intake.chunk(chunk);
    let length = chunk.data.0.len() as u64;
    match (model.get_mut(&chunk.stream), coming) {
        (Some(stream), Ok(coming)) => {
            assert_eq!(chunk.offset, stream.come);
            assert!(length > 0);
            stream.come += length;
            assert!(stream.come <= stream.size);
            assert_eq!((coming.size, coming.come), (stream.size, stream.come));
        }
        (Some(stream), Err(_)) => {
            let in_place = chunk.offset == stream.come && length > 0;
            assert!(!in_place || stream.come + length > stream.size);
        }
        (None, coming) => assert!(coming.is_err()),
    }
}

fn ended(intake: &mut Intake, model: &mut BTreeMap<u8, Stream>, end: &End) {
    let coming = intake.end(end);
    let whole = model
        .get(&end.stream)
        .is_some_and(|stream| stream.come == stream.size && end.size == stream.size);
    assert_eq!(coming.is_ok(), whole);
    if whole {
        model.remove(&end.stream);
    }
}
