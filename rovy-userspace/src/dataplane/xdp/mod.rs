//! The XDP dataplane: the only place that knows aya.
