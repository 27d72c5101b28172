//! Where transit happens: in the kernel (XDP) and, for what the kernel hands up, in the agent.
pub mod xdp;
