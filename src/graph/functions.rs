//! Functions of one value that are made of several operators.

use std::f32::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use super::builder::{Graph, Value};
use super::op::{DType, Op};

impl Graph {
    /// A function of x in f32, whatever type x is of.
    pub fn in_f32(&mut self, x: Value, function: impl FnOnce(&mut Self, Value) -> Value) -> Value {
        let dtype = self.dtype(x);
        let wide = self.cast(x, DType::F32);
        let y = function(self, wide);
        self.cast(y, dtype)
    }

    /// GELU, x (1 + erf(x / sqrt(2))) / 2, of x in f32.
    pub fn gelu(&mut self, x: Value) -> Value {
        let (narrow, one, half) = (self.scalar(FRAC_1_SQRT_2), self.scalar(1.0), self.scalar(0.5));
        let scaled = self.mul(x, narrow);
        let erf = self.like(Op::Erf, scaled);
        let above = self.add(erf, one);
        let halved = self.mul(x, half);
        self.mul(halved, above)
    }

    /// SiLU, x / (1 + exp(-x)).
    pub fn silu(&mut self, x: Value) -> Value {
        let gate = self.sigmoid(x);
        self.mul(x, gate)
    }

    /// The slope of erf, 2 / sqrt(pi) exp(-x^2), of x in f32.
    pub(super) fn erf_slope(&mut self, x: Value) -> Value {
        let (minus, steepest) = (self.scalar(-1.0), self.scalar(FRAC_2_SQRT_PI));
        let square = self.mul(x, x);
        let negative = self.mul(square, minus);
        let bell = self.like(Op::Exp, negative);
        self.mul(bell, steepest)
    }
}
