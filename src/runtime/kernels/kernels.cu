// Kernels for what a tuning step does between its matrix products: each reads every operand once and writes every
// result once. Elements are f32 or bf16 in memory; all arithmetic is f32. scripts/kernels.py compiles this file to
// kernels.ptx, which the binary carries.

typedef unsigned short bf16;
typedef long long i64;

#define FULL 0xffffffffu

// --- elements, V at a time ---

template <int V> struct Pack { float x[V]; };

__device__ inline float widen(bf16 h) { return __uint_as_float((unsigned)h << 16); }

// to nearest, ties to even; what is not a number stays so
__device__ inline bf16 narrow(float f) {
  unsigned u = __float_as_uint(f);
  if ((u & 0x7fffffffu) > 0x7f800000u) return (bf16)((u >> 16) | 0x40u);
  return (bf16)((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}

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

template <int V> __device__ inline Pack<V> load(const bf16* p) {
  Pack<V> r;
  if (V == 4) {
    ushort4 v = *reinterpret_cast<const ushort4*>(p);
    r.x[V > 1 ? 1 : 0] = widen(v.y); r.x[V > 2 ? 2 : 0] = widen(v.z); r.x[V > 3 ? 3 : 0] = widen(v.w);
    r.x[0] = widen(v.x);
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

template <int V> __device__ inline void store(bf16* p, const Pack<V>& r) {
  if (V == 4) {
    *reinterpret_cast<ushort4*>(p) = make_ushort4(
        narrow(r.x[0]), narrow(r.x[V > 1 ? 1 : 0]), narrow(r.x[V > 2 ? 2 : 0]), narrow(r.x[V > 3 ? 3 : 0]));
  } else {
    *p = narrow(r.x[0]);
  }
}

// --- a row is a warp's work ---

__device__ inline float sum(float x) {
  for (int offset = 16; offset > 0; offset >>= 1) x += __shfl_xor_sync(FULL, x, offset);
  return x;
}

__device__ inline i64 own_row() { return (i64)blockIdx.x * (blockDim.x >> 5) + (threadIdx.x >> 5); }

__device__ inline int lane() { return threadIdx.x & 31; }

// --- gated GELU ---

// gelu(x) = x s(x) with s = sigmoid(c x (1 + 0.044715 x^2)), c = 2 sqrt(2 / pi): the tanh form
#define GELU_C 1.5957691216057308f
#define GELU_K 0.044715f

__device__ inline float gelu_gate(float x) { return 1.0f / (1.0f + __expf(-GELU_C * x * (1.0f + GELU_K * x * x))); }

// y = gelu(gate) * wide
template <class T, int V>
__device__ inline void gated_gelu(const T* gate, const T* wide, T* y, i64 count) {
  i64 step = (i64)gridDim.x * blockDim.x * V;
  for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V; i < count; i += step) {
    Pack<V> g = load<V>(gate + i), w = load<V>(wide + i), r;
#pragma unroll
    for (int k = 0; k < V; k++) r.x[k] = g.x[k] * gelu_gate(g.x[k]) * w.x[k];
    store<V>(y + i, r);
  }
}

// d_gate = dy * wide * gelu'(gate), d_wide = dy * gelu(gate)
template <class T, int V>
__device__ inline void gated_gelu_grad(const T* gate, const T* wide, const T* dy, T* d_gate, T* d_wide, i64 count) {
  i64 step = (i64)gridDim.x * blockDim.x * V;
  for (i64 i = ((i64)blockIdx.x * blockDim.x + threadIdx.x) * V; i < count; i += step) {
    Pack<V> g = load<V>(gate + i), w = load<V>(wide + i), d = load<V>(dy + i), dg, dw;
#pragma unroll
    for (int k = 0; k < V; k++) {
      float x = g.x[k], s = gelu_gate(x);
      float slope = s + x * s * (1.0f - s) * GELU_C * (1.0f + 3.0f * GELU_K * x * x);
      dg.x[k] = d.x[k] * w.x[k] * slope;
      dw.x[k] = d.x[k] * x * s;
    }
    store<V>(d_gate + i, dg);
    store<V>(d_wide + i, dw);
  }
}

// --- RMS norm ---

// With g = dy * scale and r = 1 / rms(x): dx = r g - x r^3 mean(g x), plus `before` if there is one
template <class T, int V>
__device__ inline void rms_norm_grad(
    const T* x, const T* scale, const float* inverse, const T* dy, const T* before, T* dx, i64 rows, int width) {
  i64 row = own_row();
  if (row >= rows) return;
  x += row * width; dy += row * width; dx += row * width;
  float dot = 0.0f;
  for (int i = lane() * V; i < width; i += 32 * V) {
    Pack<V> a = load<V>(x + i), g = load<V>(dy + i), s = load<V>(scale + i);
#pragma unroll
    for (int k = 0; k < V; k++) dot += a.x[k] * g.x[k] * s.x[k];
  }
  float r = inverse[row];
  float pull = sum(dot) / width * r * r * r;
  for (int i = lane() * V; i < width; i += 32 * V) {
    Pack<V> a = load<V>(x + i), g = load<V>(dy + i), s = load<V>(scale + i), y;
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] = r * g.x[k] * s.x[k] - a.x[k] * pull;
    if (before) {
      Pack<V> b = load<V>(before + row * width + i);
#pragma unroll
      for (int k = 0; k < V; k++) y.x[k] += b.x[k];
    }
    store<V>(dx + i, y);
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
      if (z > top) { total *= __expf(top - z); top = z; }
      total += __expf(z - top);
    }
  }
  float highest = top;
  for (int offset = 16; offset > 0; offset >>= 1) highest = fmaxf(highest, __shfl_xor_sync(FULL, highest, offset));
  // a lane without elements has a total of 0
  float scale = 1.0f / sum(total == 0.0f ? 0.0f : total * __expf(top - highest));
  for (int i = lane() * V; i < width; i += 32 * V) {
    Pack<V> a = load<V>(scores + i), b = load<V>(position + i), h, y;
    if (hidden) h = load<V>(hidden + i);
#pragma unroll
    for (int k = 0; k < V; k++) y.x[k] = __expf(a.x[k] + b.x[k] + (hidden ? h.x[k] : 0.0f) - highest) * scale;
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
  extern "C" __global__ void gated_gelu_##NAME(const T* gate, const T* wide, T* y, i64 count) {                      \
    gated_gelu<T, V>(gate, wide, y, count);                                                                          \
  }                                                                                                                  \
  extern "C" __global__ void gated_gelu_grad_##NAME(                                                                 \
      const T* gate, const T* wide, const T* dy, T* d_gate, T* d_wide, i64 count) {                                  \
    gated_gelu_grad<T, V>(gate, wide, dy, d_gate, d_wide, count);                                                    \
  }                                                                                                                  \
  extern "C" __global__ void rms_norm_grad_##NAME(                                                                   \
      const T* x, const T* scale, const float* inverse, const T* dy, const T* before, T* dx, i64 rows, int width) {  \
    rms_norm_grad<T, V>(x, scale, inverse, dy, before, dx, rows, width);                                             \
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
KERNELS(float, 4, f32x4)
KERNELS(bf16, 1, bf16)
KERNELS(bf16, 4, bf16x4)
