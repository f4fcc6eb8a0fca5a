//! trainer
fn main(){}
