//! Network namespaces with real devices and real agents.
