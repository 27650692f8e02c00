//! The model alone: a scripted guest, a scripted desktop, and random ones of both.
mod defects;
mod desk;
mod random;
mod rules;
mod tray;
