//! What is done to a packet.
