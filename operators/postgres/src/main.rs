//! One binary: the operator, and the processes in data pods.

fn main() {}
