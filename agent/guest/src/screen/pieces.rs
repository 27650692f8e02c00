//! Which rectangles of a window are sent when some of it has changed. Few and close to what changed: every
//! rectangle costs a request and a message, every pixel costs its bytes.
use medley_wire::limits::{DAMAGE_RECTS, PIXEL_BYTES};
use medley_wire::{Rect, Size, Untrusted};

fn area(rect: &Rect) -> u64 {
    u64::from(rect.size().width()) * u64::from(rect.size().height())
}

fn around(one: Rect, other: Rect) -> Rect {
    let right = |r: Rect| r.x() + r.size().width().cast_signed();
    let lower = |r: Rect| r.y() + r.size().height().cast_signed();
    let (x, y) = (one.x().min(other.x()), one.y().min(other.y()));
    let width = right(one).max(right(other)) - x;
    let height = lower(one).max(lower(other)) - y;
    Size::new(width.cast_unsigned(), height.cast_unsigned())
        .and_then(|size| Rect::new(x, y, size))
        .unwrap_or(one)
}

/// What of the changed rectangles lies inside `whole`, put together where that costs less than a third more.
#[must_use]
pub fn merged(changed: impl IntoIterator<Item = Rect>, whole: Rect) -> Vec<Rect> {
    let mut inside: Vec<Rect> = changed
        .into_iter()
        .filter_map(|rect| Untrusted::claim(rect).clip(whole))
        .map(|rect| rect.get())
        .collect();
    let Some(all) = inside.iter().copied().reduce(around) else {
        return inside;
    };
    let sum: u64 = inside.iter().map(area).sum();
    if inside.len() > DAMAGE_RECTS || area(&all) * 3 <= sum * 4 {
        inside = vec![all];
    }
    inside
}

/// The rectangle in bands that a patch can hold.
#[must_use]
pub fn bands(rect: Rect) -> Vec<Rect> {
    let row = rect.size().width() as usize * 4;
    let rows = u32::try_from(PIXEL_BYTES / row).unwrap_or(u32::MAX).max(1);
    let height = rect.size().height();
    (0..height)
        .step_by(rows as usize)
        .filter_map(|top| {
            let size = Size::new(rect.size().width(), rows.min(height - top))?;
            Rect::new(rect.x(), rect.y() + top.cast_signed(), size)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rect(x: i32, y: i32, width: u32, height: u32) -> Rect {
        Rect::new(x, y, Size::new(width, height).unwrap()).unwrap()
    }

    #[test]
    fn close_ones_become_one_and_far_ones_stay() {
        let whole = rect(0, 0, 1000, 1000);
        let close = merged([rect(10, 10, 50, 10), rect(10, 20, 50, 10)], whole);
        assert_eq!(close, [rect(10, 10, 50, 20)]);
        let far = [rect(0, 0, 10, 10), rect(900, 900, 10, 10)];
        assert_eq!(merged(far, whole), far);
        let many = (0..65).map(|n| rect(n * 15, n * 15, 2, 2));
        assert_eq!(merged(many, whole), [rect(0, 0, 962, 962)]);
        assert_eq!(
            merged([rect(-5, 990, 20, 20)], whole),
            [rect(0, 990, 15, 10)]
        );
        assert!(merged([rect(2000, 0, 5, 5)], whole).is_empty());
    }

    #[test]
    fn bands_cover_exactly() {
        let large = rect(3, 4, 5000, 3000);
        let bands = bands(large);
        assert!(bands.len() > 1);
        assert!(bands.iter().all(|band| band.size().bytes() <= PIXEL_BYTES));
        assert_eq!(bands.iter().map(area).sum::<u64>(), area(&large));
        assert_eq!(bands.iter().copied().reduce(around), Some(large));
    }
}
