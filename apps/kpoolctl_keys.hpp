// `kpoolctl keys`: makes and shows CURVE keys. A secret key is never printed.
#pragma once

#include <ostream>
#include <string>

#include "core/result.hpp"

namespace kpool {

/// Errors: as create_keys.
Status new_keys(const std::string& directory, const std::string& name, std::ostream& out);
/// file: NAME.pub, NAME.key or a list of authorized keys. Errors: missing, bad_input, denied.
Status show_keys(const std::string& file, std::ostream& out);

}  // namespace kpool
