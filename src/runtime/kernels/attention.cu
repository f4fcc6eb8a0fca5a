// Attention on tensor cores. scripts/kernels.py compiles this file behind kernels.cu, whose functions it uses.

// softmax(q k' + position + hidden) v on tensor cores, a tile of 64 by 32 pairs at a time; the pairs never reach memory.
// A row of `qkv` holds the queries, keys and values of all heads, `d` elements each, of one position. A block of four
// warps owns 64 rows of one head of one example, each warp 16 of them, and passes over the others 32 at a time: while it
// computes with some, the next are on their way to shared memory. `D` is `d` rounded up to what fits a kernel.
//
// Registers hold 16 by 16 matrices as the instructions want them: `a` and `b` are operands, `c` sums. Lane 4 g + t has
// rows g and g + 8 and the columns 2 t and 2 t + 1 (for the second half, + 8).

#define OWN 64
#define OTHER 32
#define PAD 8

// what a block works on: a tile of one head of one example
template <class T> struct Task {
  int length, d, head;
  i64 heads, inner, example, stride;
  // its first row, this warp's first row, and this lane's place in a matrix
  int begin, row, g, t;
  const T *position, *hidden;

  __device__ inline Task(const T* positions, const T* all_hidden, int heads_, int length_, int d_, int own_position)
      : length(length_), d(d_), heads(heads_), inner((i64)heads_ * d_), stride(3 * inner) {
    int tiles = (length + OWN - 1) / OWN, which = blockIdx.x / tiles;
    begin = blockIdx.x % tiles * OWN;
    example = which / heads_;
    head = which % heads_;
    row = begin + (threadIdx.x >> 5) * 16;
    g = lane() >> 2;
    t = lane() & 3;
    position = positions + ((own_position ? example * heads : 0) + head) * (i64)length * length;
    hidden = all_hidden ? all_hidden + example * length : all_hidden;
  }

  // where this head's queries (0), keys (1) or values (2) begin
  __device__ inline i64 in_qkv(int part) const { return example * length * stride + part * inner + head * d; }
  __device__ inline i64 in_out() const { return example * length * inner + head * d; }
  __device__ inline i64 in_statistics() const { return (example * heads + head) * length; }
};

template <class T> __device__ inline void multiply(float* c, const unsigned* a, unsigned b0, unsigned b1);

#define MULTIPLY(T)                                                                                                   \
  template <> __device__ inline void multiply<T>(float* c, const unsigned* a, unsigned b0, unsigned b1) {             \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." #T "." #T ".f32 "                                           \
                 "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"                                              \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                                     \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));                                     \
  }

MULTIPLY(bf16)
MULTIPLY(f16)

// four 8 by 8 matrices; lane 8 m + i names row i of matrix m
template <class T> __device__ inline void matrices(unsigned* r, const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}

template <class T> __device__ inline void matrices_turned(unsigned* r, const T* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}

// rows row.., columns column.. of a tile as the left operand
template <int D, class T> __device__ inline void left(unsigned* a, const T* tile, int row, int column) {
  int m = lane() >> 3, i = lane() & 7;
  matrices(a, tile + (row + (m & 1) * 8 + i) * (D + PAD) + column + (m >> 1) * 8);
}

// the same as the right operand, turned: 16 rows of the tile are 16 columns of the product
template <int D, class T> __device__ inline void right_turned(unsigned* b, const T* tile, int row, int column) {
  int m = lane() >> 3, i = lane() & 7;
  matrices(b, tile + (row + (m >> 1) * 8 + i) * (D + PAD) + column + (m & 1) * 8);
}

// and as it is: 16 rows of the tile are summed over
template <int D, class T> __device__ inline void right(unsigned* b, const T* tile, int row, int column) {
  int m = lane() >> 3, i = lane() & 7;
  matrices_turned(b, tile + (row + (m & 1) * 8 + i) * (D + PAD) + column + (m >> 1) * 8);
}

// sums of 16 by 16 as a left operand
template <class T> __device__ inline void as_left(unsigned* a, const float c[2][4]) {
  a[0] = two<T>(c[0][0], c[0][1]);
  a[1] = two<T>(c[0][2], c[0][3]);
  a[2] = two<T>(c[1][0], c[1][1]);
  a[3] = two<T>(c[1][2], c[1][3]);
}

// copies 16 bytes, or zeros, while the block goes on
template <class T> __device__ inline void copy_later(T* to, const T* from, bool inside) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"((unsigned)__cvta_generic_to_shared(to)), "l"(from), "r"(inside ? 16 : 0)
               : "memory");
}

// what was to be copied since the last of these calls is a group; waits until at most N groups are under way
__device__ inline void end_of_group() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int N> __device__ inline void wait_for_groups() { asm volatile("cp.async.wait_group %0;" : : "n"(N) : "memory"); }

// ROWS rows of a matrix, first.., into a tile; what lies outside is 0
template <int D, int ROWS, class T>
__device__ inline void fill(T* tile, const T* from, i64 stride, int first, int rows, int d) {
#pragma unroll
  for (int i = 0; i < ROWS * D / 8 / THREADS; i++) {
    int at = i * THREADS + threadIdx.x, row = at / (D / 8), column = at % (D / 8) * 8;
    bool inside = first + row < rows && column < d;
    copy_later(tile + row * (D + PAD) + column, inside ? from + (first + row) * stride + column : from, inside);
  }
}

// minus infinity
template <class T> __device__ inline unsigned lowest();
template <> __device__ inline unsigned lowest<bf16>() { return 0xff80u; }
template <> __device__ inline unsigned lowest<f16>() { return 0xfc00u; }

// position biases of pairs of QUERIES queries, query.., and KEYS keys, key..; what lies outside is hidden
template <int QUERIES, int KEYS, class T>
__device__ inline void fill_pairs(T* tile, const T* position, int query, int key, int length) {
  const unsigned HIDDEN = lowest<T>();
  if (length % 8 == 0) {
#pragma unroll
    for (int i = 0; i < QUERIES * KEYS / 8 / THREADS; i++) {
      int at = i * THREADS + threadIdx.x, row = at / (KEYS / 8), column = at % (KEYS / 8) * 8;
      T* to = tile + row * (KEYS + PAD) + column;
      if (query + row < length && key + column < length) {
        copy_later(to, position + (query + row) * length + key + column, true);
      } else {
        unsigned two = HIDDEN << 16 | HIDDEN;
        *reinterpret_cast<uint4*>(to) = make_uint4(two, two, two, two);
      }
    }
  } else {
#pragma unroll 4
    for (int i = 0; i < QUERIES * KEYS / THREADS; i++) {
      int at = i * THREADS + threadIdx.x, row = at / KEYS, column = at % KEYS;
      bool inside = query + row < length && key + column < length;
      tile[row * (KEYS + PAD) + column] = inside ? position[(query + row) * length + key + column] : T{(unsigned short)HIDDEN};
    }
  }
}

template <class T> __device__ inline float hidden_key(const T* hidden, int key, int length) {
  return hidden && key < length ? widen(hidden[key]) : 0.0f;
}

// the 16 by 16 biases of a tile of pairs, WIDTH keys wide, in the places of their sums; if TURNED, of keys by queries
template <bool TURNED, int WIDTH, class T>
__device__ inline void pairs(float c[2][4], const T* tile, int row, int column) {
  int m = lane() >> 3, i = lane() & 7;
  unsigned r[4];
  // matrices by columns of sums, each of the upper and the lower rows
  if (TURNED) {
    matrices_turned(r, tile + (column + (m >> 1) * 8 + i) * (WIDTH + PAD) + row + (m & 1) * 8);
  } else {
    matrices(r, tile + (row + (m & 1) * 8 + i) * (WIDTH + PAD) + column + (m >> 1) * 8);
  }
#pragma unroll
  for (int j = 0; j < 4; j++) {
    c[j / 2][j % 2 * 2] = low<T>(r[j]);
    c[j / 2][j % 2 * 2 + 1] = high<T>(r[j]);
  }
}

// this warp's sums, rows first.. of a matrix, each row times its factor
template <int D, class T>
__device__ inline void drain(
    T* to, i64 stride, int first, int rows, int d, const float c[D / 8][4], float factor, float factor8) {
  int g = lane() >> 2, t = lane() & 3;
#pragma unroll
  for (int j = 0; j < D / 8; j++) {
    int column = j * 8 + 2 * t;
    if (column >= d) continue;
    if (first + g < rows)
      *reinterpret_cast<unsigned*>(to + (first + g) * stride + column) = two<T>(c[j][0] * factor, c[j][1] * factor);
    if (first + g + 8 < rows)
      *reinterpret_cast<unsigned*>(to + (first + g + 8) * stride + column) = two<T>(c[j][2] * factor8, c[j][3] * factor8);
  }
}

// over the four lanes of a row
__device__ inline float row_sum(float x) {
  x += __shfl_xor_sync(FULL, x, 1);
  return x + __shfl_xor_sync(FULL, x, 2);
}

__device__ inline float row_max(float x) {
  x = fmaxf(x, __shfl_xor_sync(FULL, x, 1));
  return fmaxf(x, __shfl_xor_sync(FULL, x, 2));
}

// what a block computes with next: two tiles of others, and the biases of the pairs
template <class T, int D> struct Stage {
  T first[OTHER * (D + PAD)], second[OTHER * (D + PAD)], biases[OWN * (OTHER + PAD)];
  // of the others: keys that are hidden, or the queries' statistics
  float hidden[OTHER], log_sum[OTHER], delta[OTHER];
};

// out = softmax(q k' + position + hidden) v, and the logarithm of each row's sum of exponentials
template <class T, int D>
__device__ inline void attention(
    const T* qkv, const T* position, const T* hidden, T* out, float* log_sum, int heads, int length, int d,
    int own_position) {
  __shared__ __align__(16) Stage<T, D> stages[2];
  const Task<T> at(position, hidden, heads, length, d, own_position);
  const int begin = at.begin, row = at.row;

  T* own = stages[0].first;
  fill<D, OWN>(own, qkv + at.in_qkv(0), at.stride, begin, length, d);
  end_of_group();
  wait_for_groups<0>();
  __syncthreads();
  unsigned q[D / 16][4];
#pragma unroll
  for (int k = 0; k < D / 16; k++) left<D>(q[k], own, row - begin, k * 16);
  __syncthreads();

  auto prepare = [&](Stage<T, D>& stage, int key) {
    fill<D, OTHER>(stage.first, qkv + at.in_qkv(1), at.stride, key, length, d);
    fill<D, OTHER>(stage.second, qkv + at.in_qkv(2), at.stride, key, length, d);
    fill_pairs<OWN, OTHER>(stage.biases, at.position, begin, key, length);
    if (threadIdx.x < OTHER) stage.hidden[threadIdx.x] = hidden_key(at.hidden, key + threadIdx.x, length);
    end_of_group();
  };
  const float none = -__int_as_float(0x7f800000);
  float sums[D / 8][4] = {}, top[2] = {none, none}, total[2] = {0.0f, 0.0f};
  prepare(stages[0], 0);
  for (int key = 0, now = 0; key < length; key += OTHER, now ^= 1) {
    if (key + OTHER < length) {
      prepare(stages[now ^ 1], key + OTHER);
      wait_for_groups<1>();
    } else {
      wait_for_groups<0>();
    }
    __syncthreads();
    const Stage<T, D>& stage = stages[now];
    if (row < length) {
      float s[OTHER / 16][2][4];
      float highest[2] = {top[0], top[1]};
#pragma unroll
      for (int j = 0; j < OTHER / 16; j++) {
        pairs<false, OTHER>(s[j], stage.biases, row - begin, j * 16);
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
          unsigned b[4];
          right_turned<D>(b, stage.first, j * 16, k * 16);
          multiply<T>(s[j][0], q[k], b[0], b[1]);
          multiply<T>(s[j][1], q[k], b[2], b[3]);
        }
#pragma unroll
        for (int e = 0; e < 8; e++) {
          float& z = s[j][e / 4][e % 4];
          z += stage.hidden[j * 16 + e / 4 * 8 + 2 * at.t + e % 2];
          highest[(e % 4) / 2] = fmaxf(highest[(e % 4) / 2], z);
        }
      }
#pragma unroll
      for (int r = 0; r < 2; r++) {
        highest[r] = row_max(highest[r]);
        float shrink = exponential(top[r] - highest[r]);
        total[r] *= shrink;
        top[r] = highest[r];
#pragma unroll
        for (int j = 0; j < D / 8; j++) { sums[j][2 * r] *= shrink; sums[j][2 * r + 1] *= shrink; }
      }
#pragma unroll
      for (int j = 0; j < OTHER / 16; j++) {
#pragma unroll
        for (int e = 0; e < 8; e++) {
          float& z = s[j][e / 4][e % 4];
          z = exponential(z - top[(e % 4) / 2]);
          total[(e % 4) / 2] += z;
        }
        unsigned p[4];
        as_left<T>(p, s[j]);
#pragma unroll
        for (int k = 0; k < D / 16; k++) {
          unsigned b[4];
          right<D>(b, stage.second, j * 16, k * 16);
          multiply<T>(sums[2 * k], p, b[0], b[1]);
          multiply<T>(sums[2 * k + 1], p, b[2], b[3]);
        }
      }
    }
    __syncthreads();
  }
  if (row >= length) return;
  total[0] = row_sum(total[0]);
  total[1] = row_sum(total[1]);
  drain<D>(out + at.in_out(), at.inner, row, length, d, sums, 1.0f / total[0], 1.0f / total[1]);
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int x = row + at.g + r * 8;
    if (at.t == 0 && x < length) log_sum[at.in_statistics() + x] = top[r] + __logf(total[r]);
  }
}

// With p the softmax and delta = sum(d_out * out) of a query: ds = p (d_out v' - delta), dq = ds k, dk = ds' q,
// dv = p' d_out. A block owns queries and passes over keys, for dq and delta; or, if KEYS, owns keys and passes over
// queries, for dk and dv. Sums have one order, so that equal inputs give equal bytes.
template <class T, int D, bool KEYS>
__device__ inline void attention_grad(
    const T* qkv, const T* position, const T* hidden, const T* out, const float* log_sum,
    const T* d_out, T* d_qkv, float* delta, int heads, int length, int d, int own_position) {
  __shared__ __align__(16) Stage<T, D> stages[2];
  __shared__ float own_log_sum[OWN], own_delta[OWN];
  const Task<T> at(position, hidden, heads, length, d, own_position);
  const int begin = at.begin, row = at.row;
  const i64 stride = at.stride;
  log_sum += at.in_statistics();
  delta += at.in_statistics();
  const T *q = qkv + at.in_qkv(0), *k = qkv + at.in_qkv(1), *v = qkv + at.in_qkv(2), *dy = d_out + at.in_out();

  T *own1 = stages[0].first, *own2 = stages[1].first;
  fill<D, OWN>(own1, KEYS ? k : q, stride, begin, length, d);
  fill<D, OWN>(own2, KEYS ? v : dy, KEYS ? stride : at.inner, begin, length, d);
  end_of_group();
  if (!KEYS) {
    const T* y = out + at.in_out();
    // D / 8 neighbouring lanes have a row
    for (int i = threadIdx.x; i < OWN * D / 8; i += THREADS) {
      int x = begin + i / (D / 8), column = i % (D / 8) * 8;
      float dot = 0.0f;
      if (x < length && column < d) {
        Pack<8> a = load<8>(y + x * at.inner + column), b = load<8>(dy + x * at.inner + column);
#pragma unroll
        for (int e = 0; e < 8; e++) dot += a.x[e] * b.x[e];
      }
#pragma unroll
      for (int offset = D / 16; offset > 0; offset >>= 1) dot += __shfl_xor_sync(FULL, dot, offset);
      if (column == 0) {
        if (x < length) delta[x] = dot;
        own_delta[x - begin] = dot;
        own_log_sum[x - begin] = x < length ? log_sum[x] : 0.0f;
      }
    }
  }
  wait_for_groups<0>();
  __syncthreads();
  unsigned a1[D / 16][4], a2[D / 16][4];
#pragma unroll
  for (int i = 0; i < D / 16; i++) {
    left<D>(a1[i], own1, row - begin, i * 16);
    left<D>(a2[i], own2, row - begin, i * 16);
  }
  // of the own rows: what is added to scores, and delta
  float row_bias[2], row_delta[2];
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int x = row - begin + at.g + r * 8;
    row_bias[r] = KEYS ? hidden_key(at.hidden, begin + x, length) : -own_log_sum[x];
    row_delta[r] = KEYS ? 0.0f : own_delta[x];
  }
  __syncthreads();

  auto prepare = [&](Stage<T, D>& stage, int other) {
    fill<D, OTHER>(stage.first, KEYS ? q : k, stride, other, length, d);
    fill<D, OTHER>(stage.second, KEYS ? dy : v, KEYS ? at.inner : stride, other, length, d);
    if (KEYS) {
      fill_pairs<OTHER, OWN>(stage.biases, at.position, other, begin, length);
    } else {
      fill_pairs<OWN, OTHER>(stage.biases, at.position, begin, other, length);
    }
    if (threadIdx.x < OTHER) {
      int x = other + threadIdx.x;
      if (KEYS) {
        stage.log_sum[threadIdx.x] = x < length ? log_sum[x] : 0.0f;
        stage.delta[threadIdx.x] = x < length ? delta[x] : 0.0f;
      } else {
        stage.hidden[threadIdx.x] = hidden_key(at.hidden, x, length);
      }
    }
    end_of_group();
  };
  // dq or dk, and dv
  float sums[D / 8][4] = {}, values[KEYS ? D / 8 : 1][4] = {};
  prepare(stages[0], 0);
  for (int other = 0, now = 0; other < length; other += OTHER, now ^= 1) {
    if (other + OTHER < length) {
      prepare(stages[now ^ 1], other + OTHER);
      wait_for_groups<1>();
    } else {
      wait_for_groups<0>();
    }
    __syncthreads();
    const Stage<T, D>& stage = stages[now];
    if (row < length) {
#pragma unroll 1
      for (int j = 0; j < OTHER / 16; j++) {
        float p[2][4], ds[2][4] = {};
        pairs<KEYS, KEYS ? OWN : OTHER>(p, stage.biases, row - begin, j * 16);
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
          unsigned b[4];
          right_turned<D>(b, stage.first, j * 16, i * 16);
          multiply<T>(p[0], a1[i], b[0], b[1]);
          multiply<T>(p[1], a1[i], b[2], b[3]);
          right_turned<D>(b, stage.second, j * 16, i * 16);
          multiply<T>(ds[0], a2[i], b[0], b[1]);
          multiply<T>(ds[1], a2[i], b[2], b[3]);
        }
#pragma unroll
        for (int e = 0; e < 8; e++) {
          int r = (e % 4) / 2, column = j * 16 + e / 4 * 8 + 2 * at.t + e % 2;
          float &z = p[e / 4][e % 4], &dz = ds[e / 4][e % 4];
          z = exponential(z + row_bias[r] + (KEYS ? -stage.log_sum[column] : stage.hidden[column]));
          dz = z * (dz - (KEYS ? stage.delta[column] : row_delta[r]));
        }
        unsigned a[4];
        as_left<T>(a, ds);
#pragma unroll
        for (int i = 0; i < D / 16; i++) {
          unsigned b[4];
          right<D>(b, stage.first, j * 16, i * 16);
          multiply<T>(sums[2 * i], a, b[0], b[1]);
          multiply<T>(sums[2 * i + 1], a, b[2], b[3]);
        }
        if (KEYS) {
          as_left<T>(a, p);
#pragma unroll
          for (int i = 0; i < D / 16; i++) {
            unsigned b[4];
            right<D>(b, stage.second, j * 16, i * 16);
            multiply<T>(values[KEYS ? 2 * i : 0], a, b[0], b[1]);
            multiply<T>(values[KEYS ? 2 * i + 1 : 0], a, b[2], b[3]);
          }
        }
      }
    }
    __syncthreads();
  }
  if (row >= length) return;
  drain<D>(d_qkv + at.in_qkv(KEYS ? 1 : 0), stride, row, length, d, sums, 1.0f, 1.0f);
  if constexpr (KEYS) drain<D>(d_qkv + at.in_qkv(2), stride, row, length, d, values, 1.0f, 1.0f);
}

#define ATTENTION(T, D)                                                                                                \
  extern "C" __global__ void __launch_bounds__(THREADS, 4) attention_##T##_##D(                                        \
      const T* qkv, const T* position, const T* hidden, T* out, float* log_sum, int heads, int length,                 \
      int d, int own_position) {                                                                                       \
    attention<T, D>(qkv, position, hidden, out, log_sum, heads, length, d, own_position);                              \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(THREADS, 4) attention_grad_queries_##T##_##D(                           \
      const T* qkv, const T* position, const T* hidden, const T* out, const float* log_sum,                            \
      const T* d_out, T* d_qkv, float* delta, int heads, int length, int d, int own_position) {                        \
    attention_grad<T, D, false>(                                                                                       \
        qkv, position, hidden, out, log_sum, d_out, d_qkv, delta, heads, length, d, own_position);                     \
  }                                                                                                                    \
  extern "C" __global__ void __launch_bounds__(THREADS, 3) attention_grad_keys_##T##_##D(                              \
      const T* qkv, const T* position, const T* hidden, const T* out, const float* log_sum,                            \
      const T* d_out, T* d_qkv, float* delta, int heads, int length, int d, int own_position) {                        \
    attention_grad<T, D, true>(                                                                                        \
        qkv, position, hidden, out, log_sum, d_out, d_qkv, delta, heads, length, d, own_position);                     \
  }

ATTENTION(bf16, 64)
ATTENTION(f16, 64)
