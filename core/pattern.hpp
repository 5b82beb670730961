// A compiled regular expression with Unicode classes (PCRE2). Immutable but for match scratch: one object per
// thread. Patterns are our own constants, never a user's.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;

namespace kpool {

class Pattern {
 public:
  explicit Pattern(const char* expression);
  Pattern(Pattern&&) noexcept;
  ~Pattern();

  struct Match {
    std::size_t begin = 0, end = 0;
  };
  /// The first match at or after `from` that is not empty. subject: well-formed UTF-8.
  std::optional<Match> find(std::string_view subject, std::size_t from) const;

 private:
  pcre2_real_code_8* code_;
  pcre2_real_match_data_8* scratch_;
};

}  // namespace kpool
