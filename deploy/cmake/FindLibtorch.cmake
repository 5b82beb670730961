# Libtorch::cpu from an unpacked torch wheel (KPOOL_DEPS/torch), without the wheel's own package
# config, which demands a CUDA toolkit even when only the CPU library is linked.
# LIBTORCH_ROOT may name any other directory that has include/ and lib/ of a libtorch from 2.8 on.
if(NOT LIBTORCH_ROOT)
  set(LIBTORCH_ROOT ${KPOOL_DEPS}/torch)
endif()
find_library(Libtorch_CPU torch_cpu PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH)
find_library(Libtorch_C10 c10 PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH)
# A wheel with CUDA registers its kernels when it is loaded; core/base.cpp asks at run time what there is.
option(KPOOL_CUDA "Link libtorch's CUDA kernels where LIBTORCH_ROOT has them" ON)
if(KPOOL_CUDA)
  find_library(Libtorch_CUDA torch_cuda PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH)
  find_library(Libtorch_C10_CUDA c10_cuda PATHS ${LIBTORCH_ROOT}/lib NO_DEFAULT_PATH)
endif()
find_path(Libtorch_INCLUDE ATen/ATen.h PATHS ${LIBTORCH_ROOT}/include NO_DEFAULT_PATH)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(Libtorch
  REQUIRED_VARS Libtorch_CPU Libtorch_C10 Libtorch_INCLUDE
  REASON_FAILURE_MESSAGE "Run deploy/bootstrap.sh, which unpacks the pinned wheel into ${KPOOL_DEPS}.")

if(Libtorch_FOUND AND NOT TARGET Libtorch::cpu)
  # The wheel's include/ also holds other projects' headers (fmt, dnnl, ...) that would hide
  # Debian's; only libtorch's own directories are let in.
  set(own_headers ${CMAKE_BINARY_DIR}/libtorch)
  file(MAKE_DIRECTORY ${own_headers})
  foreach(part ATen c10 torch caffe2)
    file(CREATE_LINK ${Libtorch_INCLUDE}/${part} ${own_headers}/${part} SYMBOLIC)
  endforeach()
  add_library(Libtorch::c10 SHARED IMPORTED)
  set_target_properties(Libtorch::c10 PROPERTIES IMPORTED_LOCATION ${Libtorch_C10})
  add_library(Libtorch::cpu SHARED IMPORTED)
  # The OpenMP runtime whose threads at::parallel_for uses: the one that libtorch brings.
  file(GLOB openmp ${LIBTORCH_ROOT}/lib/libgomp*.so*)
  if(NOT openmp)
    set(openmp gomp)
  endif()
  # libtorch_cpu names two CUDA libraries that it finds beside itself at run time.
  set_target_properties(Libtorch::cpu PROPERTIES
    IMPORTED_LOCATION ${Libtorch_CPU}
    INTERFACE_INCLUDE_DIRECTORIES ${own_headers}
    INTERFACE_LINK_OPTIONS "-Wl,--allow-shlib-undefined"
    INTERFACE_LINK_LIBRARIES "Libtorch::c10;${openmp}")
  if(KPOOL_CUDA AND Libtorch_CUDA AND Libtorch_C10_CUDA)
    message(STATUS "libtorch with CUDA: ${Libtorch_CUDA}")
    # No symbol of theirs is named, so the linker would leave them out. Their NVIDIA libraries lie in wheels beside
    # this one, so programs use it where it is.
    set_property(TARGET Libtorch::cpu APPEND PROPERTY INTERFACE_LINK_LIBRARIES
      "-Wl,--no-as-needed,${Libtorch_CUDA},${Libtorch_C10_CUDA},--as-needed")
    set(libtorch_in_place ON)
    list(PREPEND CMAKE_INSTALL_RPATH ${LIBTORCH_ROOT}/lib)
  endif()
endif()

# Installs libtorch and the two CUDA libraries that it names under `directory`, laid out as in the
# wheels, because libtorch looks for them relative to itself.
function(install_libtorch directory)
  if(libtorch_in_place)
    return()
  endif()
  get_filename_component(libraries ${Libtorch_CPU} DIRECTORY)
  install(FILES ${Libtorch_CPU} ${Libtorch_C10} ${libraries}/libgomp.so.1
    DESTINATION ${directory}/torch/lib OPTIONAL)
  install(DIRECTORY ${KPOOL_DEPS}/nvidia/cu13/lib DESTINATION ${directory}/nvidia/cu13 OPTIONAL)
endfunction()
