// A directory that appears whole or not at all: its files are written and synced under another name beside
// it, which is then renamed. Called by the persistence stage and by kpoolctl; blocks on the disk.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "core/result.hpp"

namespace kpool {

/// files: name -> content. The directory may exist only if it is empty; what an earlier call left behind
/// half-written (`<directory>.partial`) is removed.
/// Errors: usage (the directory is in use), no_space, io, each naming the path.
Status write_whole_directory(const std::string& directory, const std::map<std::string, std::string_view>& files);

}  // namespace kpool
