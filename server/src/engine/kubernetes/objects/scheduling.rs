//! `on_node` of a Plan as tolerations and node affinity.
