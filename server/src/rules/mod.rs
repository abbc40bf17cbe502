//! The rules: plain computation on plain values. No waiting, no clock, no chance, no logging.
