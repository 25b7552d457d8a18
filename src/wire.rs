//! What PID 1 and the agent say to each other over the socket pair on the agent's standard input (SOCK_SEQPACKET).
//!
//! Stands below both and knows only `std`. Messages to PID 1 have a fixed size, so that it never allocates.
