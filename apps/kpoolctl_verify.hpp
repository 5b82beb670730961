// `kpoolctl verify`: reads a store or snapshot without writing, checks that every value is whole and makes
// sense, and gives digests by which two pools are compared.
#pragma once

#include <map>
#include <ostream>
#include <string>
#include <vector>

#include "core/result.hpp"
#include "storage/store.hpp"

namespace kpool {

struct StoredValue {
  std::size_t bytes = 0;
  std::string sha256;
};

struct Verification {
  std::string group = "0";
  std::map<std::string, StoredValue> values;
  /// Over key and value of all that the pool is: group, slot/*, mixture, routing, fragility, source/*.
  /// Refusals and identities are left out.
  std::string state_sha256;
  std::vector<std::string> problems;  ///< one sentence each
};

Verification verify_values(const Values& values);

/// Errors: as open_store_read_only and Store::load; bad_input where a value makes no sense.
Status verify_store(const std::string& path, bool json, std::ostream& out);

}  // namespace kpool
