// Visits the pixels of an image in groups, so that a kernel loads each weight once for all pixels of a group.
#pragma once

#include "axis.hpp"
#include "board.hpp"

namespace tmf::kernels {

// Number of sums that are computed at the same time; together with their factors they fit into the float registers.
constexpr int kAccumulators = board::kFloatRegisters >= 32 ? 16 : 8;
// How many of `most` numbers that lie side by side are multiplied at once. Runs keep as many factors in registers, for which a
// vector unit or a processor with few registers has no room.
template <typename T>
constexpr int run_of(int most) { return board::kFloatRegisters >= 32 && sizeof(T) == sizeof(float) ? most : 1; }

constexpr int at_most(int size, int limit) { return size < limit ? size : limit; }
constexpr int at_least(int size, int limit) { return size > limit ? size : limit; }

// Pixels at equal distances that use the same kernel elements, or a single pixel.
struct Group {
  int row, column;
  int down, right;  // distance from one pixel to the next, in pixels; 0 and 0 for a single pixel

  constexpr bool is_single() const { return down == 0 && right == 0; }
};

// The outputs and the inputs along an axis: their number, the distance to the possible next one of a group, and whether the two
// use the same kernel elements. An output and a kernel element belong to an input, which may lie outside the image, and an input
// and an element to an output, if any.
template <typename Axis>
struct Outputs {
  static constexpr int kCount = Axis::kOut, kNext = 1;
  static constexpr bool alike(int out) { return Axis::outputs_alike(out); }
  static constexpr int kReach = Axis::kKernel - 1;  // at most so many at a border have a window that is not whole
  // How many have a whole window.
  static constexpr int kWhole = Axis::last_whole_out() < Axis::first_out(0) ? 0 : Axis::last_whole_out() - Axis::first_out(0) + 1;
  static constexpr bool whole(int out) { return Axis::first(out) == 0 && Axis::last(out) == Axis::kKernel; }
  static constexpr int input(int out, int element) { return Axis::start(out) + element; }
  static constexpr bool uses(int out, int element) { return input(out, element) >= 0 && input(out, element) < Axis::kIn; }
  static constexpr int partner(int out, int element) { return input(out, element); }
  static constexpr int kPartners = Axis::kIn, kMoves = Axis::kStride;
  static constexpr bool kAscends = true;  // whether a later element has a later partner
  // The outputs that use a kernel element: those of [first, last) that share it.
  static constexpr bool shares(int, int) { return true; }
  static constexpr int first(int element) { return Axis::first_out(element); }
  static constexpr int last(int element) { return Axis::last_out(element); }
  // The first input of outputs from `out` on.
  static constexpr int from(int out) { return at_least(Axis::start(out), 0); }
};
template <typename Axis>
struct Inputs {
  static constexpr int kCount = Axis::kIn, kNext = Axis::kStride;
  static constexpr bool alike(int in) { return Axis::inputs_alike(in); }
  static constexpr int kReach = Axis::kKernel - 1;
  // How many pixels are alike from the first one with a whole window on, in steps of kNext.
  static constexpr int kFirst = at_least(Axis::kKernel - 1 + Axis::start(0), 0);
  static constexpr int kEnd = at_most(Axis::kOut * Axis::kStride + Axis::start(0), Axis::kIn);
  static constexpr int kWhole = at_least(kEnd - kFirst, 0) / Axis::kStride;
  static constexpr bool whole(int in) {
    return Axis::first_element(in) < Axis::kStride && Axis::last_element(in) == Axis::kKernel;
  }
  static constexpr bool uses(int in, int element) {
    return element >= Axis::first_element(in) && element < Axis::last_element(in) &&
           (element - Axis::first_element(in)) % Axis::kStride == 0;
  }
  static constexpr int partner(int in, int element) { return Axis::out(in, element); }
  static constexpr int kPartners = Axis::kOut, kMoves = 1;
  static constexpr bool kAscends = false;
  // The inputs that use a kernel element: those of [first, last) that share it.
  static constexpr bool shares(int in, int element) { return (in - Axis::start(0) - element) % Axis::kStride == 0; }
  static constexpr int first(int element) { return at_least(element + Axis::start(0), 0); }
  static constexpr int last(int element) { return at_most(element + Axis::start(Axis::kOut - 1) + 1, Axis::kIn); }
  // An output of inputs from `in` on.
  static constexpr int from(int in) { return at_most(Axis::out(in, 0), Axis::kOut - 1); }
};

// Visits every pixel of [Rows::kCount, Columns::kCount] once: in groups of kSize where so many use the same kernel elements, else
// singly.
template <typename Rows, typename Columns, int kSize>
struct Groups {
  template <typename Visit>
  static void for_each(const Visit& visit) {
    if constexpr (Rows::kCount == 1 && Columns::kReach == 0 && Columns::kWhole == Columns::kCount) {
      int column = 0;
      for (; column + kSize <= Columns::kCount; column += kSize) visit(Group{0, column, 0, kSize == 1 ? 0 : 1});
      if constexpr (Columns::kCount % kSize != 0) {
        for (; column < Columns::kCount; ++column) visit(Group{0, column, 0, 0});
      }
      return;
    }
    for (int first_row = 0; first_row < Rows::kNext; ++first_row) {
      for (int row = first_row; row < Rows::kCount;) {
        const int down = alike<Rows>(row) ? Rows::kNext : 0;
        for (int first_column = 0; first_column < Columns::kNext; ++first_column) {
          for (int column = first_column; column < Columns::kCount;) {
            const int right = down == 0 && alike<Columns>(column) ? Columns::kNext : 0;
            visit(Group{row, column, down, right});
            column += Columns::kNext + right * (kSize - 1);
          }
        }
        row += Rows::kNext + down * (kSize - 1);
      }
    }
  }

  // Whether single pixels need code of their own. One alone does not: it is computed as a group with itself.
  static constexpr bool has_singles() { return singles<Rows>() * singles<Columns>() > 1; }

 private:
  // Whether kSize places from one on use the same kernel elements.
  template <typename Axis>
  static constexpr bool alike(int place, int more = kSize - 1) {
    return more == 0 || (Axis::alike(place) && alike<Axis>(place + Axis::kNext, more - 1));
  }

  // How far a walk along an axis has come, and how many places without a group it has met.
  struct Walked {
    int at, singles;
  };

  // `steps` more steps of a walk. Halving keeps the depth of the recursion, which compilers limit, at log2(steps).
  template <typename Axis>
  static constexpr Walked walk(Walked done, int steps) {
    return done.at >= Axis::kCount || steps == 0 ? done
           : steps > 1                           ? walk<Axis>(walk<Axis>(done, steps / 2), steps - steps / 2)
           : alike<Axis>(done.at)                ? Walked{done.at + kSize * Axis::kNext, done.singles}
                                                 : Walked{done.at + Axis::kNext, done.singles + 1};
  }

  // Places along an axis that have no group, when places a step apart are walked from each first one.
  template <typename Axis>
  static constexpr int singles(int first = 0) {
    return first == Axis::kNext
               ? 0
               : walk<Axis>(Walked{first, 0}, Axis::kCount).singles + singles<Axis>(first + 1);
  }
};

// A size of at most kMost for groups that leaves few single pixels.
template <typename Rows, typename Columns, int kMost>
struct GroupSize {
  static constexpr int kAlike = Rows::kWhole > 1 ? Rows::kWhole : Columns::kWhole;
  static constexpr int kValue = kAlike <= 1 ? 2 : kAlike / ((kAlike + kMost - 1) / kMost);
};

}  // namespace tmf::kernels
