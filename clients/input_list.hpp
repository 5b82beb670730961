// Which files a run sends, and a fingerprint by which a later run knows the same input again. Values.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "clients/record_reader.hpp"

namespace kpool {

struct InputList {
  std::vector<std::string> files;  ///< "-" is standard input
  std::uint64_t bytes = 0;         ///< of all files; standard input counts nothing
  std::string fingerprint;         ///< of names, sizes, times and how they are read; empty with standard input
};

/// Files, directories (everything in them but hidden files, in order of name), "-".
/// Errors: missing, denied (a file cannot be read), usage (nothing to send; "-" twice).
Result<InputList> list_inputs(const std::vector<std::string>& paths, const RecordReaderOptions& options);

}  // namespace kpool
