// A step of attention over a cache in blocks. scripts/kernels.py compiles this file behind kernels.cu, whose functions it
// uses.

#define BLOCK 16
// elements of a head that a lane has at most: heads are up to 256 wide
#define MOST 8

// A warp's work is a head of a row: its key and value go into the cache at the row's age, and its query attends to all
// positions up to that one, 32 at a time, each lane to one of them; then each lane sums its elements of their values. The
// cache is [blocks, layers, 2, heads, BLOCK, d], and `table` has `blocks` of them for each row.
template <class T, int V>
__device__ inline void cached_attention(
    const T* qkv, T* cache, const i64* table, const i64* ages, const T* positions, T* mixed, i64 all, int heads, int d,
    int layer, int layers, int blocks, int distances) {
  i64 which = own_row();
  if (which >= all) return;
  i64 row = which / heads, inner = (i64)heads * d, part = inner * BLOCK;
  int head = (int)(which - row * heads), age = (int)ages[row];
  const T *q = qkv + 3 * row * inner + head * d, *k = q + inner, *v = k + inner;
  table += row * blocks;
  auto key_at = [&](int position) {
    return cache + (table[position / BLOCK] * layers + layer) * 2 * part + ((i64)head * BLOCK + position % BLOCK) * d;
  };
  T* own = key_at(age);
  for (int i = lane(); i < d; i += 32) {
    own[i] = k[i];
    own[part + i] = v[i];
  }
  __syncwarp();
  float sums[MOST] = {}, top = -__int_as_float(0x7f800000), total = 0.0f;
  for (int first = 0; first <= age; first += 32) {
    int position = first + lane();
    float z = -__int_as_float(0x7f800000);
    if (position <= age) {
      const T* key = key_at(position);
      z = load<1>(positions + min(age - position, distances - 1) * heads + head).x[0];
      for (int i = 0; i < d; i += V) {
        Pack<V> a = load<V>(q + i), b = load<V>(key + i);
#pragma unroll
        for (int e = 0; e < V; e++) z += a.x[e] * b.x[e];
      }
    }
    float highest = z;
    for (int offset = 16; offset > 0; offset >>= 1) highest = fmaxf(highest, __shfl_xor_sync(FULL, highest, offset));
    highest = fmaxf(highest, top);
    float shrink = exponential(top - highest), p = exponential(z - highest);
    total = total * shrink + p;
    top = highest;
#pragma unroll
    for (int m = 0; m < MOST; m++) sums[m] *= shrink;
    int count = min(32, age + 1 - first);
    for (int j = 0; j < count; j++) {
      float pj = __shfl_sync(FULL, p, j);
      const T* value = key_at(first + j) + part;
#pragma unroll
      for (int m = 0; m < MOST; m++) {
        int i = lane() + 32 * m;
        if (i < d) sums[m] += pj * load<1>(value + i).x[0];
      }
    }
  }
  float scale = 1.0f / sum(total);
#pragma unroll
  for (int m = 0; m < MOST; m++) {
    int i = lane() + 32 * m;
    Pack<1> y = {sums[m] * scale};
    if (i < d) store<1>(mixed + row * inner + head * d + i, y);
  }
}

#define CACHED(T, V, NAME)                                                                                           \
  extern "C" __global__ void cached_attention_##NAME(                                                                \
      const T* qkv, T* cache, const i64* table, const i64* ages, const T* positions, T* mixed, i64 all, int heads,   \
      int d, int layer, int layers, int blocks, int distances) {                                                     \
    cached_attention<T, V>(                                                                                          \
        qkv, cache, table, ages, positions, mixed, all, heads, d, layer, layers, blocks, distances);                 \
  }

CACHED(float, 1, f32)
CACHED(float, 4, f32_packed)
CACHED(bf16, 1, bf16)
CACHED(bf16, 8, bf16_packed)

// --- the most likely token ---

#define WIDE 1024

// A block's work is a row: the index of its largest element, the first of equal ones.
extern "C" __global__ void most_likely_f32(const float* logits, float* best, int width) {
  __shared__ float tops[WIDE / 32];
  __shared__ int places[WIDE / 32];
  logits += (i64)blockIdx.x * width;
  float top = -__int_as_float(0x7f800000);
  int place = 0;
  auto take = [&](float x, int at) {
    if (x > top || (x == top && at < place)) { top = x; place = at; }
  };
  for (int i = threadIdx.x; i < width; i += WIDE) take(logits[i], i);
  auto among_lanes = [&]() {
    for (int offset = 16; offset > 0; offset >>= 1) {
      float x = __shfl_xor_sync(FULL, top, offset);
      int at = __shfl_xor_sync(FULL, place, offset);
      take(x, at);
    }
  };
  among_lanes();
  if (lane() == 0) { tops[threadIdx.x >> 5] = top; places[threadIdx.x >> 5] = place; }
  __syncthreads();
  if (threadIdx.x >= 32) return;
  top = tops[lane()];
  place = places[lane()];
  among_lanes();
  if (lane() == 0) best[blockIdx.x] = (float)place;
}
