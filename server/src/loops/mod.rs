//! What Knit does by itself: one file per loop, one driver for all.
