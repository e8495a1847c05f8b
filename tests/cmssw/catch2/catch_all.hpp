// A stand-in of Catch2: one test case, whose failed checks are the exit code.
#pragma once
#include <cmath>
#include <cstdlib>
#include <iostream>

namespace Catch {
  struct Approx {
    explicit Approx(double value) : value(value) {}
    Approx& margin(double m) { return absolute = m, *this; }
    Approx& epsilon(double e) { return relative = e, *this; }
    friend bool operator==(double found, const Approx& wanted) {
      return std::fabs(found - wanted.value) <=
             std::fmax(wanted.absolute, wanted.relative * std::fabs(wanted.value));
    }
    double value, absolute = 0, relative = 1.2e-5;
  };
}  // namespace Catch

inline int failed = 0;
#define CHECK(condition) \
  if (!(condition)) std::cerr << #condition << " failed\n", ++failed
#define REQUIRE(condition) \
  if (!(condition)) std::exit(99)
#define TEST_CASE(name) \
  void test();          \
  int main() {          \
    test();             \
    return failed;      \
  }                     \
  void test()
