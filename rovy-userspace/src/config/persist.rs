//! Changes to the configuration file that keep its comments. The old file stays whole when anything fails.
