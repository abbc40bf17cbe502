//! What a Job, its Pods and the Events about them mean: how a worker stands, and why. It only computes.
