//! The commands, one file each: what they take, what they do, what they report.

pub mod boot;
pub mod check;
pub mod convert;
pub mod create;
pub mod decrypt;
pub mod encrypt;
pub mod info;
pub mod key;
pub mod machine;
pub mod mount;
pub mod network;
pub mod overlay;
pub mod serve;
pub mod speed;
pub mod token;
pub mod unmount;
pub mod upkeep;
pub mod view;
pub mod windows;
