//! The Pod and the Secret of an agent.
