// Unit tests that run on the board: TEST("title") { CHECK(condition); }. main.cpp runs and reports them.
#pragma once

namespace tmf::unit {

struct Failure {
  const char* file;
  int line;
  const char* condition;  // nullptr: nothing failed
};

// One test. All tests form a list, in the order in which they were linked.
struct Test {
  using Body = void (*)(Failure& failure);

  Test(const char* file_, int line_, const char* title_, Body body_);

  const char* file;
  int line;
  const char* title;
  Body body;
  Test* next = nullptr;
};

inline Test* first_test = nullptr;
inline Test** end_of_tests = &first_test;

inline Test::Test(const char* file_, int line_, const char* title_, Body body_)
    : file(file_), line(line_), title(title_), body(body_) {
  *end_of_tests = this;
  end_of_tests = &next;
}

}  // namespace tmf::unit

// A false condition ends the test.
#define CHECK(...)                                                      \
  do {                                                                  \
    if (!(__VA_ARGS__)) {                                               \
      failure = ::tmf::unit::Failure{__FILE__, __LINE__, #__VA_ARGS__}; \
      return;                                                           \
    }                                                                   \
  } while (false)

#define TEST_NAMED(name, title)                                          \
  static void name(::tmf::unit::Failure& failure);                       \
  static ::tmf::unit::Test name##_test(__FILE__, __LINE__, title, name); \
  static void name([[maybe_unused]] ::tmf::unit::Failure& failure)
#define TEST_AT(line, title) TEST_NAMED(body_in_line_##line, title)
#define TEST_IN(line, title) TEST_AT(line, title)
#define TEST(title) TEST_IN(__LINE__, title)
