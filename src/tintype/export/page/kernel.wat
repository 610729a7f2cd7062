;; The arithmetic of the page: matrix products and what lies between them, four numbers at a time (WebAssembly SIMD).
;;
;; `wat.py` assembles this file when a page is made; any other assembler of the WebAssembly text format does too.
;; All addresses and strides are in bytes. Stores may go up to seven numbers beyond the end of a row and up to three
;; rows beyond the last one: buffers have that much room, and what is overwritten so is computed later.
;; plain.js does the same without WebAssembly.
(module
  (import "page" "memory" (memory 1))

  ;; out[i][j] = bias[j] + add[i][j] + sum over segments s and k of a[i * row + s * segment][k] * w[j][s][k],
  ;; for i < rows and j < columns; add 0: nothing is added. Weights come in panels of eight columns, [j / 8][s][k][j % 8].
  ;; A convolution is such a product: a pixel and its neighbors in one row are one segment of its input.
  (func (export "product")
    (param $a i32) (param $row i32) (param $segments i32) (param $segment i32) (param $depth i32)
    (param $weights i32) (param $bias i32) (param $add i32) (param $out i32) (param $stride i32)
    (param $rows i32) (param $columns i32)
    (local $panel i32) (local $size i32) (local $i i32) (local $s i32) (local $k i32) (local $w i32) (local $from i32)
    (local $a0 i32) (local $a1 i32) (local $a2 i32) (local $a3 i32) (local $to i32) (local $plus i32)
    (local $u v128) (local $v v128) (local $x v128)
    (local $c00 v128) (local $c01 v128) (local $c10 v128) (local $c11 v128)
    (local $c20 v128) (local $c21 v128) (local $c30 v128) (local $c31 v128)
    (local.set $size (i32.shl (i32.mul (local.get $segments) (local.get $depth)) (i32.const 5)))
    (local.set $panel (i32.shr_u (i32.add (local.get $columns) (i32.const 7)) (i32.const 3)))
    (loop $panels ;; from the last one to the first, so that what is stored too far is overwritten
      (local.set $panel (i32.sub (local.get $panel) (i32.const 1)))
      (local.set $from (i32.add (local.get $weights) (i32.mul (local.get $panel) (local.get $size))))
      (local.set $i (i32.const 0))
      (loop $blocks ;; of four rows
        (local.set $c00 (v128.load (i32.add (local.get $bias) (i32.shl (local.get $panel) (i32.const 5)))))
        (local.set $c01 (v128.load offset=16 (i32.add (local.get $bias) (i32.shl (local.get $panel) (i32.const 5)))))
        (local.set $c10 (local.get $c00)) (local.set $c11 (local.get $c01))
        (local.set $c20 (local.get $c00)) (local.set $c21 (local.get $c01))
        (local.set $c30 (local.get $c00)) (local.set $c31 (local.get $c01))
        (local.set $w (local.get $from))
        (local.set $s (i32.const 0))
        (loop $parts
          (local.set $a0 (i32.add (i32.add (local.get $a) (i32.mul (local.get $i) (local.get $row)))
                                  (i32.mul (local.get $s) (local.get $segment))))
          (local.set $a1 (i32.add (local.get $a0) (local.get $row)))
          (local.set $a2 (i32.add (local.get $a1) (local.get $row)))
          (local.set $a3 (i32.add (local.get $a2) (local.get $row)))
          (local.set $k (i32.add (local.get $a0) (i32.shl (local.get $depth) (i32.const 2))))
          (loop $terms
            (local.set $u (v128.load (local.get $w)))
            (local.set $v (v128.load offset=16 (local.get $w)))
            (local.set $x (v128.load32_splat (local.get $a0)))
            (local.set $c00 (f32x4.relaxed_madd (local.get $x) (local.get $u) (local.get $c00)))
            (local.set $c01 (f32x4.relaxed_madd (local.get $x) (local.get $v) (local.get $c01)))
            (local.set $x (v128.load32_splat (local.get $a1)))
            (local.set $c10 (f32x4.relaxed_madd (local.get $x) (local.get $u) (local.get $c10)))
            (local.set $c11 (f32x4.relaxed_madd (local.get $x) (local.get $v) (local.get $c11)))
            (local.set $x (v128.load32_splat (local.get $a2)))
            (local.set $c20 (f32x4.relaxed_madd (local.get $x) (local.get $u) (local.get $c20)))
            (local.set $c21 (f32x4.relaxed_madd (local.get $x) (local.get $v) (local.get $c21)))
            (local.set $x (v128.load32_splat (local.get $a3)))
            (local.set $c30 (f32x4.relaxed_madd (local.get $x) (local.get $u) (local.get $c30)))
            (local.set $c31 (f32x4.relaxed_madd (local.get $x) (local.get $v) (local.get $c31)))
            (local.set $w (i32.add (local.get $w) (i32.const 32)))
            (local.set $a1 (i32.add (local.get $a1) (i32.const 4)))
            (local.set $a2 (i32.add (local.get $a2) (i32.const 4)))
            (local.set $a3 (i32.add (local.get $a3) (i32.const 4)))
            (br_if $terms (i32.lt_u (local.tee $a0 (i32.add (local.get $a0) (i32.const 4))) (local.get $k))))
          (br_if $parts (i32.lt_u (local.tee $s (i32.add (local.get $s) (i32.const 1))) (local.get $segments))))
        (local.set $to (i32.add (i32.mul (local.get $i) (local.get $stride)) (i32.shl (local.get $panel) (i32.const 5))))
        (if (local.get $add) (then
          (local.set $plus (i32.add (local.get $add) (local.get $to)))
          (local.set $c00 (f32x4.add (local.get $c00) (v128.load (local.get $plus))))
          (local.set $c01 (f32x4.add (local.get $c01) (v128.load offset=16 (local.get $plus))))
          (local.set $plus (i32.add (local.get $plus) (local.get $stride)))
          (local.set $c10 (f32x4.add (local.get $c10) (v128.load (local.get $plus))))
          (local.set $c11 (f32x4.add (local.get $c11) (v128.load offset=16 (local.get $plus))))
          (local.set $plus (i32.add (local.get $plus) (local.get $stride)))
          (local.set $c20 (f32x4.add (local.get $c20) (v128.load (local.get $plus))))
          (local.set $c21 (f32x4.add (local.get $c21) (v128.load offset=16 (local.get $plus))))
          (local.set $plus (i32.add (local.get $plus) (local.get $stride)))
          (local.set $c30 (f32x4.add (local.get $c30) (v128.load (local.get $plus))))
          (local.set $c31 (f32x4.add (local.get $c31) (v128.load offset=16 (local.get $plus))))))
        (local.set $to (i32.add (local.get $out) (local.get $to)))
        (v128.store (local.get $to) (local.get $c00))
        (v128.store offset=16 (local.get $to) (local.get $c01))
        (local.set $to (i32.add (local.get $to) (local.get $stride)))
        (v128.store (local.get $to) (local.get $c10))
        (v128.store offset=16 (local.get $to) (local.get $c11))
        (local.set $to (i32.add (local.get $to) (local.get $stride)))
        (v128.store (local.get $to) (local.get $c20))
        (v128.store offset=16 (local.get $to) (local.get $c21))
        (local.set $to (i32.add (local.get $to) (local.get $stride)))
        (v128.store (local.get $to) (local.get $c30))
        (v128.store offset=16 (local.get $to) (local.get $c31))
        (br_if $blocks (i32.lt_u (local.tee $i (i32.add (local.get $i) (i32.const 4))) (local.get $rows))))
      (br_if $panels (local.get $panel))))

  ;; e^x to about 1e-7, for x between -87 and 88 (beyond: of the nearest of these): 2^n times a polynomial, as in Cephes.
  ;; n stands in the lowest bits of x / ln 2 + 1.5 * 2^23, which has no room for a fraction.
  (func $exp (param $x v128) (result v128)
    (local $t v128) (local $n v128)
    (local.set $x (f32x4.pmax (f32x4.pmin (local.get $x) (f32x4.splat (f32.const 88))) (f32x4.splat (f32.const -87))))
    (local.set $t (f32x4.relaxed_madd (local.get $x) (f32x4.splat (f32.const 1.44269504)) (f32x4.splat (f32.const 12582912))))
    (local.set $n (f32x4.sub (local.get $t) (f32x4.splat (f32.const 12582912))))
    (local.set $x (f32x4.relaxed_madd (local.get $n) (f32x4.splat (f32.const -0.693359375)) (local.get $x)))
    (local.set $x (f32x4.relaxed_madd (local.get $n) (f32x4.splat (f32.const 0.000212194440)) (local.get $x)))
    (local.set $n (f32x4.relaxed_madd
      (local.get $x) (f32x4.splat (f32.const 0.00019875691)) (f32x4.splat (f32.const 0.00139819995))))
    (local.set $n (f32x4.relaxed_madd (local.get $n) (local.get $x) (f32x4.splat (f32.const 0.00833345190))))
    (local.set $n (f32x4.relaxed_madd (local.get $n) (local.get $x) (f32x4.splat (f32.const 0.0416657959))))
    (local.set $n (f32x4.relaxed_madd (local.get $n) (local.get $x) (f32x4.splat (f32.const 0.166666655))))
    (local.set $n (f32x4.relaxed_madd (local.get $n) (local.get $x) (f32x4.splat (f32.const 0.500000012))))
    (f32x4.mul
      (f32x4.add (f32x4.relaxed_madd (f32x4.mul (local.get $x) (local.get $x)) (local.get $n) (local.get $x))
                 (f32x4.splat (f32.const 1)))
      (i32x4.shl (i32x4.add (local.get $t) (i32x4.splat (i32.const 127))) (i32.const 23))))

  (func $silu (param $x v128) (result v128)
    (f32x4.div (local.get $x)
      (f32x4.add (f32x4.splat (f32.const 1)) (call $exp (f32x4.neg (local.get $x))))))

  ;; out = silu(x * scale + shift), both per channel; x and out [pixels][size / 4], size a multiple of 16.
  (func (export "scaled_silu")
    (param $x i32) (param $out i32) (param $pixels i32) (param $size i32) (param $scale i32) (param $shift i32)
    (local $c i32)
    (loop $all
      (local.set $c (i32.const 0))
      (loop $channels
        (v128.store (i32.add (local.get $out) (local.get $c))
          (call $silu (f32x4.add
            (f32x4.mul (v128.load (i32.add (local.get $x) (local.get $c)))
                       (v128.load (i32.add (local.get $scale) (local.get $c))))
            (v128.load (i32.add (local.get $shift) (local.get $c))))))
        (br_if $channels (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size))))
      (local.set $x (i32.add (local.get $x) (local.get $size)))
      (local.set $out (i32.add (local.get $out) (local.get $size)))
      (br_if $all (local.tee $pixels (i32.sub (local.get $pixels) (i32.const 1))))))

  ;; sums[c] = sum over pixels of x - mean, squares[c] = of its square; x [pixels][size / 4], size a multiple of 16.
  (func (export "moments")
    (param $x i32) (param $pixels i32) (param $size i32) (param $mean i32) (param $sums i32) (param $squares i32)
    (local $c i32) (local $i i32) (local $at i32) (local $m v128) (local $d v128) (local $sum v128) (local $square v128)
    (loop $channels
      (local.set $m (v128.load (i32.add (local.get $mean) (local.get $c))))
      (local.set $sum (f32x4.splat (f32.const 0)))
      (local.set $square (local.get $sum))
      (local.set $at (i32.add (local.get $x) (local.get $c)))
      (local.set $i (local.get $pixels))
      (loop $all
        (local.set $d (f32x4.sub (v128.load (local.get $at)) (local.get $m)))
        (local.set $sum (f32x4.add (local.get $sum) (local.get $d)))
        (local.set $square (f32x4.add (local.get $square) (f32x4.mul (local.get $d) (local.get $d))))
        (local.set $at (i32.add (local.get $at) (local.get $size)))
        (br_if $all (local.tee $i (i32.sub (local.get $i) (i32.const 1)))))
      (v128.store (i32.add (local.get $sums) (local.get $c)) (local.get $sum))
      (v128.store (i32.add (local.get $squares) (local.get $c)) (local.get $square))
      (br_if $channels (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size)))))

  ;; out[i][j] = silu(x[i][j]) * x[i][j + size / 4]; x [rows][size / 2], out [rows][size / 4], size a multiple of 16.
  (func (export "swiglu") (param $x i32) (param $out i32) (param $rows i32) (param $size i32)
    (local $c i32)
    (loop $all
      (local.set $c (i32.const 0))
      (loop $columns
        (v128.store (i32.add (local.get $out) (local.get $c))
          (f32x4.mul (call $silu (v128.load (i32.add (local.get $x) (local.get $c))))
                     (v128.load (i32.add (i32.add (local.get $x) (local.get $size)) (local.get $c)))))
        (br_if $columns (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size))))
      (local.set $x (i32.add (local.get $x) (i32.shl (local.get $size) (i32.const 1))))
      (local.set $out (i32.add (local.get $out) (local.get $size)))
      (br_if $all (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; Softmax of each row in place; x [rows][size / 4], size a multiple of 16.
  (func (export "softmax") (param $x i32) (param $rows i32) (param $size i32)
    (local $c i32) (local $m v128) (local $sum v128)
    (loop $all
      (local.set $m (v128.load (local.get $x)))
      (local.set $c (i32.const 0))
      (loop $highest
        (local.set $m (f32x4.max (local.get $m) (v128.load (i32.add (local.get $x) (local.get $c)))))
        (br_if $highest (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size))))
      (local.set $m (f32x4.splat (f32.max
        (f32.max (f32x4.extract_lane 0 (local.get $m)) (f32x4.extract_lane 1 (local.get $m)))
        (f32.max (f32x4.extract_lane 2 (local.get $m)) (f32x4.extract_lane 3 (local.get $m))))))
      (local.set $sum (f32x4.splat (f32.const 0)))
      (local.set $c (i32.const 0))
      (loop $powers
        (v128.store (i32.add (local.get $x) (local.get $c))
          (call $exp (f32x4.sub (v128.load (i32.add (local.get $x) (local.get $c))) (local.get $m))))
        (local.set $sum (f32x4.add (local.get $sum) (v128.load (i32.add (local.get $x) (local.get $c)))))
        (br_if $powers (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size))))
      (local.set $sum (f32x4.splat (f32.add
        (f32.add (f32x4.extract_lane 0 (local.get $sum)) (f32x4.extract_lane 1 (local.get $sum)))
        (f32.add (f32x4.extract_lane 2 (local.get $sum)) (f32x4.extract_lane 3 (local.get $sum))))))
      (local.set $c (i32.const 0))
      (loop $shares
        (v128.store (i32.add (local.get $x) (local.get $c))
          (f32x4.div (v128.load (i32.add (local.get $x) (local.get $c))) (local.get $sum)))
        (br_if $shares (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size))))
      (local.set $x (i32.add (local.get $x) (local.get $size)))
      (br_if $all (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; out = x / rms(x) * (1 + scale) + shift for each row; x and out [rows][size / 4], size a multiple of 16.
  (func (export "rms_norm")
    (param $x i32) (param $out i32) (param $rows i32) (param $size i32) (param $shift i32) (param $scale i32)
    (local $c i32) (local $v v128) (local $sum v128)
    (loop $all
      (local.set $c (i32.const 0))
      (local.set $sum (f32x4.splat (f32.const 0)))
      (loop $squares
        (local.set $v (v128.load (i32.add (local.get $x) (local.get $c))))
        (local.set $sum (f32x4.relaxed_madd (local.get $v) (local.get $v) (local.get $sum)))
        (br_if $squares (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size))))
      (local.set $sum (f32x4.splat (f32.div (f32.const 1) (f32.sqrt (f32.add (f32.const 0.000001) (f32.div
        (f32.add
          (f32.add (f32x4.extract_lane 0 (local.get $sum)) (f32x4.extract_lane 1 (local.get $sum)))
          (f32.add (f32x4.extract_lane 2 (local.get $sum)) (f32x4.extract_lane 3 (local.get $sum))))
        (f32.convert_i32_u (i32.shr_u (local.get $size) (i32.const 2)))))))))
      (local.set $c (i32.const 0))
      (loop $scaled
        (v128.store (i32.add (local.get $out) (local.get $c))
          (f32x4.relaxed_madd
            (f32x4.mul (v128.load (i32.add (local.get $x) (local.get $c))) (local.get $sum))
            (f32x4.add (f32x4.splat (f32.const 1)) (v128.load (i32.add (local.get $scale) (local.get $c))))
            (v128.load (i32.add (local.get $shift) (local.get $c)))))
        (br_if $scaled (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size))))
      (local.set $x (i32.add (local.get $x) (local.get $size)))
      (local.set $out (i32.add (local.get $out) (local.get $size)))
      (br_if $all (local.tee $rows (i32.sub (local.get $rows) (i32.const 1))))))

  ;; x += gate * y for each row; x and y [rows][size / 4], size a multiple of 16.
  (func (export "add_gated") (param $x i32) (param $y i32) (param $rows i32) (param $size i32) (param $gate i32)
    (local $c i32)
    (loop $all
      (local.set $c (i32.const 0))
      (loop $columns
        (v128.store (i32.add (local.get $x) (local.get $c))
          (f32x4.relaxed_madd (v128.load (i32.add (local.get $gate) (local.get $c)))
            (v128.load (i32.add (local.get $y) (local.get $c)))
            (v128.load (i32.add (local.get $x) (local.get $c)))))
        (br_if $columns (i32.lt_u (local.tee $c (i32.add (local.get $c) (i32.const 16))) (local.get $size))))
      (local.set $x (i32.add (local.get $x) (local.get $size)))
      (local.set $y (i32.add (local.get $y) (local.get $size)))
      (br_if $all (local.tee $rows (i32.sub (local.get $rows) (i32.const 1)))))))
