# Caf::core: Debian's libcaf-dev ships no package config. caf_io and caf_openssl stay unlinked.
find_library(Caf_CORE caf_core)
find_path(Caf_INCLUDE caf/all.hpp)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Caf REQUIRED_VARS Caf_CORE Caf_INCLUDE)
if(Caf_FOUND AND NOT TARGET Caf::core)
  add_library(Caf::core SHARED IMPORTED)
  set_target_properties(Caf::core PROPERTIES
    IMPORTED_LOCATION ${Caf_CORE} INTERFACE_INCLUDE_DIRECTORIES ${Caf_INCLUDE})
endif()
