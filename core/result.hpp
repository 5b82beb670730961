// Operating errors as values. A Result<T> holds a T or an Error; programmer errors are KPOOL_ASSERT,
// which stays on in release builds.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>

namespace kpool {

/// What kind of operating error; each has one exit code (docs/exit-codes.md).
enum class Fault : std::uint8_t {
  usage,        ///< wrong command line                                  -> 64
  bad_input,    ///< a record, frame or file breaks its format           -> 65
  missing,      ///< a file, model or key that was named is not there    -> 66
  unavailable,  ///< a peer, port or lock cannot be had now              -> 69
  internal,     ///< a broken invariant, or an exception out of a library -> 70
  no_space,     ///< the disk is full or below its guard                 -> 73
  io,           ///< reading, writing or syncing failed                  -> 74
  again,        ///< stopped so that a restart recovers                  -> 75
  mismatch,     ///< the stored pool belongs to another base or shape    -> 76
  denied,       ///< a key or permission is lacking                      -> 77
  bad_config,   ///< the configuration is wrong                          -> 78
};

/// The sysexits.h number of a fault, 64 to 78.
int exit_code(Fault fault);

struct Error {
  Fault fault;
  std::string message;  ///< one sentence that names what and where
};

template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}

  explicit operator bool() const { return state_.index() == 0; }
  T& operator*() & { return std::get<0>(state_); }
  const T& operator*() const& { return std::get<0>(state_); }
  T&& operator*() && { return std::get<0>(std::move(state_)); }
  T* operator->() { return &std::get<0>(state_); }
  const T* operator->() const { return &std::get<0>(state_); }
  Error& error() { return std::get<1>(state_); }
  const Error& error() const { return std::get<1>(state_); }

 private:
  std::variant<T, Error> state_;
};

struct Done {};
using Status = Result<Done>;

[[noreturn]] void assertion_failed(const char* expression, const char* file, int line);

}  // namespace kpool

#define KPOOL_ASSERT(expression) \
  ((expression) ? static_cast<void>(0) : ::kpool::assertion_failed(#expression, __FILE__, __LINE__))
