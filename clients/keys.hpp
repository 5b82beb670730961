// CURVE key pairs and the allow-list, as files. A secret file is readable by its owner alone.
#pragma once

#include <map>
#include <string>

#include "core/result.hpp"

namespace kpool {

struct KeyPair { std::string public_key, secret_key; };  ///< Z85, 40 characters each

/// Writes NAME.key (secret, mode 0600) and NAME.pub under `directory`. Errors: io, bad_input (exists already).
Result<KeyPair> create_keys(const std::string& directory, const std::string& name);
/// Reads NAME.key: both keys. Errors: missing, bad_input, denied (others may read it).
Result<KeyPair> read_keys(const std::string& path);
/// Reads a NAME.pub or takes a literal Z85 key. Errors: missing, bad_input.
Result<std::string> read_public_key(const std::string& path_or_key);
/// Reads lines "name public-key" ('#' begins a comment): public key -> name. Errors name the line.
Result<std::map<std::string, std::string>> read_authorized_keys(const std::string& path);

}  // namespace kpool
