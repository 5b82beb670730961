// The kinds of characters that BERT's normalisation tells apart, as Unicode 8 has them: the reference
// tokenizer reads the categories of that version, and a vocabulary is only right with the cuts it was made with.
// Pure function; any thread.
#pragma once

namespace kpool {

enum class CharacterKind {
  control,      ///< Cc, Cf, Co
  mark,         ///< Mn
  punctuation,  ///< P*
  other,
};

CharacterKind unicode8_kind(char32_t code_point);

}  // namespace kpool
