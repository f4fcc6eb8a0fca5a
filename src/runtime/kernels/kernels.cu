// Kernels for what a tuning step does between its matrix products: each reads every operand once and writes every
// result once. Elements are f32, bf16 or f16 in memory; all arithmetic is f32. scripts/kernels.py compiles this file to
// kernels.ptx, which the binary carries.

typedef long long i64;

struct bf16 { unsigned short bits; };
struct f16 { unsigned short bits; };

#define FULL 0xffffffffu

// --- elements, V at a time ---

template <int V> struct Pack { float x[V]; };

__device__ inline float widen(bf16 h) { return __uint_as_float((unsigned)h.bits << 16); }

__device__ inline float widen(f16 h) {
  float x;
  asm("cvt.f32.f16 %0, %1;" : "=f"(x) : "h"(h.bits));
  return x;
}

// the two elements of a word, the first in its lower half
template <class H> __device__ inline float low(unsigned word) { return widen(H{(unsigned short)word}); }
template <class H> __device__ inline float high(unsigned word) { return widen(H{(unsigned short)(word >> 16)}); }
template <> __device__ inline float high<bf16>(unsigned word) { return __uint_as_float(word & 0xffff0000u); }

// a word of two elements; to nearest, ties to even
template <class H> __device__ inline unsigned two(float low, float high);

template <> __device__ inline unsigned two<bf16>(float low, float high) {
  unsigned r;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

template <> __device__ inline unsigned two<f16>(float low, float high) {
  unsigned r;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(r) : "f"(high), "f"(low));
  return r;
}

template <class H> __device__ inline H narrow(float x) { return H{(unsigned short)two<H>(x, 0.0f)}; }

template <int V> __device__ inline Pack<V> load(const float* p) {
  Pack<V> r;
  if (V == 4) {
    float4 v = *reinterpret_cast<const float4*>(p);
    r.x[V > 1 ? 1 : 0] = v.y; r.x[V > 2 ? 2 : 0] = v.z; r.x[V > 3 ? 3 : 0] = v.w;
    r.x[0] = v.x;
  } else {
    r.x[0] = *p;
  }
  return r;
}

template <int V, class H> __device__ inline Pack<V> load(const H* p) {
  Pack<V> r;
  if (V == 8) {
    uint4 v = *reinterpret_cast<const uint4*>(p);
    unsigned words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
    for (int i = 0; i < V; i++) r.x[i] = i % 2 ? high<H>(words[i / 2]) : low<H>(words[i / 2]);
  } else {
    r.x[0] = widen(*p);
  }
  return r;
}

template <int V> __device__ inline void store(float* p, const Pack<V>& r) {
  if (V == 4) {
    *reinterpret_cast<float4*>(p) =
        make_float4(r.x[0], r.x[V > 1 ? 1 : 0], r.x[V > 2 ? 2 : 0], r.x[V > 3 ? 3 : 0]);
  } else {
    *p = r.x[0];
  }
}

template <int V, class H> __device__ inline void store(H* p, const Pack<V>& r) {
  if (V == 8) {
    const float* x = r.x;
    *reinterpret_cast<uint4*>(p) = make_uint4(
        two<H>(x[0], x[V > 1 ? 1 : 0]), two<H>(x[V > 2 ? 2 : 0], x[V > 3 ? 3 : 0]),
        two<H>(x[V > 4 ? 4 : 0], x[V > 5 ? 5 : 0]), two<H>(x[V > 6 ? 6 : 0], x[V > 7 ? 7 : 0]));
  } else {
    *p = narrow<H>(r.x[0]);
  }
}

// e^x; one that is smaller than the smallest normal number is 0
__device__ inline float exponential(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
  return y;
}

// --- a row is a warp's work, or that of a block of four ---

#define THREADS 128

__device__ inline int lane() { return threadIdx.x & 31; }

__device__ inline float sum(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(FULL, x, offset);
  return x;
}

__device__ inline float block_sum(float x) {
  __shared__ float parts[THREADS / 32];
  x = sum(x);
  if (lane() == 0) parts[threadIdx.x >> 5] = x;
  __syncthreads();
  x = 0.0f;
#pragma unroll
  for (int i = 0; i < THREADS / 32; i++) x += parts[i];
  return x;
}

__device__ inline i64 own_row() { return (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5); }

// --- gated GELU ---

// gelu(x) = x s(x) with s = sigmoid(c x (1 + 0.044715 x^2)), c = 2 sqrt(2 / pi): the tanh form
#define GELU_C 1.5957691216057308f
#define GELU_K 0.044715f

__device__ inline float gelu_gate(float x) { return 1.0f / (1.0f + exponential(-GELU_C * x * (1.0f + GELU_K * x * x))); }

// this thread's first element of `rows` by `width`, V together, as its row and column
template <int V> struct Spot {
  i64 row;
  int column;

  __device__ inline Spot(int width) {
    i64 i = (i64)blockIdx.x * blockDim.x + threadIdx.x;
    int packs = width / V;
    row = i / packs;
    column = (int)(i - row * packs) * V;
  }
};

// y = gelu(gate) * wide, where a row of `both` holds `width` gates and then as many wides
template <class T, int V>
__device__ inline void gated_gelu(const T* both, T* y, i64 rows, int width) {
  Spot<V> at(width);
  if (at.row >= rows) return;
  const T *gate = both + 2 * at.row * width + at.column;
  Pack<V> g = load<V>(gate), w = load<V>(gate + width), r;
#pragma unroll
  for (int k = 0; k < V; k++) r.x[k] = g.x[k] * gelu_gate(g.x[k]) * w.x[k];
  store<V>(y + at.row * width + at.column, r);
}

// d_gate = dy * wide * gelu'(gate), d_wide = dy * gelu(gate), side by side as they came
template <class T, int V>
__device__ inline void gated_gelu_grad(const T* both, const T* dy, T* d_both, i64 rows, int width) {
  Spot<V> at(width);
  if (at.row >= rows) return;
  i64 gate = 2 * at.row * width + at.column;
  Pack<V> g = load<V>(both + gate), w = load<V>(both + gate + width), d = load<V>(dy + at.row * width + at.column), dg, dw;
#pragma unroll
  for (int k = 0; k < V; k++) {
    float x = g.x[k], s = gelu_gate(x);
    float slope = s + x * s * (1.0f - s) * GELU_C * (1.0f + 3.0f * GELU_K * x * x);
    dg.x[k] = d.x[k] * w.x[k] * slope;
    dw.x[k] = d.x[k] * x * s;
  }
  store<V>(d_both + gate, dg);
  store<V>(d_both + gate + width, dw);
}

// --- ReLU ---

// dx = dy where y > 0
template <class T, int V>
__device__ inline void relu_grad(const T* y, const T* dy, T* dx, i64 rows, int width) {
  Spot<V> at(width);
  if (at.row >= rows) return;
  i64 i = at.row * width + at.column;
  Pack<V> a = load<V>(y + i), d = load<V>(dy + i);
#pragma unroll
  for (int k = 0; k < V; k++) d.x[k] = a.x[k] > 0.0f ? d.x[k] : 0.0f;
  store<V>(dx + i, d);
}

// --- RMS norm ---

// With s = x + added, rounded, and r = 1 / sqrt(mean(s^2) + epsilon): y = s r scale. Without `added`, s is x.
template <class T, int V>
__device__ inline void rms_norm(
    const T* x, const T* scale, const float* epsilon, const T* added, T* y, float* inverse, T* sums, int width) {
  i64 at = (i64)blockIdx.x * width;
  float squares = 0.0f;
  for (int i = threadIdx.x * V; i < width; i += THREADS * V) {
    Pack<V> s = load<V>(x + at + i);
    if (added) {
      Pack<V> b = load<V>(added + at + i);
#pragma unroll
      for (int k = 0; k < V; k++) s.x[k] += b.x[k];
      store<V>(sums + at + i, s);
      s = load<V>(sums + at + i);
    }
#pragma unroll
    for (int k = 0; k < V; k++) squares += s.x[k] * s.x[k];
  }
  float r = rsqrtf(block_sum(squares) / width + *epsilon);
  if (threadIdx.x == 0) inverse[blockIdx.x] = r;
  const T* normalised = added ? sums : x;
  for (int i = threadIdx.x * V; i < width; i += THREADS * V) {
    Pack<V> s = load<V>(normalised + at + i), c = load<V>(scale + i);
#pragma unroll
    for (int k = 0; k < V; k++) s.x[k] *= r * c.x[k];
    store<V>(y + at + i, s);
  }
}

// With g = dy * scale and r = 1 / rms(x): dx = r g - x r^3 mean(g x), plus `before` if there is one
template <class T, int V>
__device__ inline void rms_norm_grad(
    const T* x, const T* scale, const float* inverse, const T* dy, const T* before, T* dx, int width) {
  i64 at = (i64)blockIdx.x * width;
  float dot = 0.0f;
  for (int i = threadIdx.x * V; i < width; i += THREADS * V) {
    Pack<V> a = load<V>(x + at + i), g = load<V>(dy + at + i), s = load<V>(scale + i);
#pragma unroll
    for (int k = 0; k < V; k++) dot += a.x[k] * g.x[k] * s.x[k];
  }
  float r = inverse[blockIdx.x];
  float pull = block_sum(dot) / width * r * r * r;
  for (int i = threadIdx.x * V; i < width; i += THREADS * V) {
    Pack<V> a = load<V>(x + at + i), g = load<V>(dy + at + i), s = load<V>(scale + i), y;
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] = r * g.x[k] * s.x[k] - a.x[k] * pull;
    if (before) {
      Pack<V> b = load<V>(before + at + i);
#pragma unroll
      for (int k = 0; k < V; k++) y.x[k] += b.x[k];
    }
    store<V>(dx + at + i, y);
  }
}

// --- softmax ---

// p = softmax(scores + position + hidden) over rows of `width`. Row b * inner + q takes row q of `position`, or its own
// if `position_rows` counts all rows, and row b of `hidden` if there is one.
template <class T, int V>
__device__ inline void biased_softmax(
    const T* scores, const T* position, const T* hidden, T* p, i64 rows, int width, i64 inner, i64 position_rows) {
  i64 row = own_row();
  if (row >= rows) return;
  scores += row * width; p += row * width;
  position += (position_rows == rows ? row : row % inner) * width;
  if (hidden) hidden += row / inner * width;
  float top = -__int_as_float(0x7f800000), total = 0.0f;
  for (int i = lane() * V; i < width; i += 32 * V) {
    Pack<V> a = load<V>(scores + i), b = load<V>(position + i), h;
    if (hidden) h = load<V>(hidden + i);
#pragma unroll
    for (int k = 0; k < V; k++) {
      float z = a.x[k] + b.x[k] + (hidden ? h.x[k] : 0.0f);
      if (z > top) { total *= exponential(top - z); top = z; }
      total += exponential(z - top);
    }
  }
  float highest = top;
  for (int offset = 16; offset > 0; offset >>= 1) highest = fmaxf(highest, __shfl_xor_sync(FULL, highest, offset));
  // a lane without elements has a total of 0
  float scale = 1.0f / sum(total == 0.0f ? 0.0f : total * exponential(top - highest));
  for (int i = lane() * V; i < width; i += 32 * V) {
    Pack<V> a = load<V>(scores + i), b = load<V>(position + i), h, y;
    if (hidden) h = load<V>(hidden + i);
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] = exponential(a.x[k] + b.x[k] + (hidden ? h.x[k] : 0.0f) - highest) * scale;
    store<V>(p + i, y);
  }
}

// dx = p * (dy - sum(dy * p))
template <class T, int V>
__device__ inline void softmax_grad(const T* p, const T* dy, T* dx, i64 rows, int width) {
  i64 row = own_row();
  if (row >= rows) return;
  p += row * width; dy += row * width; dx += row * width;
  float dot = 0.0f;
  for (int i = lane() * V; i < width; i += 32 * V) {
    Pack<V> a = load<V>(p + i), g = load<V>(dy + i);
#pragma unroll
    for (int k = 0; k < V; k++) dot += a.x[k] * g.x[k];
  }
  dot = sum(dot);
  for (int i = lane() * V; i < width; i += 32 * V) {
    Pack<V> a = load<V>(p + i), g = load<V>(dy + i), y;
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] = a.x[k] * (g.x[k] - dot);
    store<V>(dx + i, y);
  }
}

// --- by element type and by how many elements lie together ---

#define KERNELS(T, V, NAME)                                                                                          \
  extern "C" __global__ void gated_gelu_##NAME(const T* both, T* y, i64 rows, int width) {                           \
    gated_gelu<T, V>(both, y, rows, width);                                                                          \
  }                                                                                                                  \
  extern "C" __global__ void gated_gelu_grad_##NAME(const T* both, const T* dy, T* d_both, i64 rows, int width) {    \
    gated_gelu_grad<T, V>(both, dy, d_both, rows, width);                                                            \
  }                                                                                                                  \
  extern "C" __global__ void relu_grad_##NAME(const T* y, const T* dy, T* dx, i64 rows, int width) {                 \
    relu_grad<T, V>(y, dy, dx, rows, width);                                                                         \
  }                                                                                                                  \
  extern "C" __global__ void rms_norm_##NAME(                                                                        \
      const T* x, const T* scale, const float* epsilon, const T* added, T* y, float* inverse, T* sums, int width) {  \
    rms_norm<T, V>(x, scale, epsilon, added, y, inverse, sums, width);                                               \
  }                                                                                                                  \
  extern "C" __global__ void rms_norm_grad_##NAME(                                                                   \
      const T* x, const T* scale, const float* inverse, const T* dy, const T* before, T* dx, int width) {            \
    rms_norm_grad<T, V>(x, scale, inverse, dy, before, dx, width);                                                   \
  }                                                                                                                  \
  extern "C" __global__ void biased_softmax_##NAME(                                                                  \
      const T* scores, const T* position, const T* hidden, T* p, i64 rows, int width, i64 inner,                     \
      i64 position_rows) {                                                                                           \
    biased_softmax<T, V>(scores, position, hidden, p, rows, width, inner, position_rows);                            \
  }                                                                                                                  \
  extern "C" __global__ void softmax_grad_##NAME(const T* p, const T* dy, T* dx, i64 rows, int width) {              \
    softmax_grad<T, V>(p, dy, dx, rows, width);                                                                      \
  }

KERNELS(float, 1, f32)
KERNELS(float, 4, f32_packed)
KERNELS(bf16, 1, bf16)
KERNELS(bf16, 8, bf16_packed)
KERNELS(f16, 1, f16)
KERNELS(f16, 8, f16_packed)
