# Where PLUMED's headers are: an imported target PLUMED::headers.  In this order:
#   -DPLUMED_INCLUDE_DIR=...   the folder that holds plumed/core/Colvar.h
#   the wheel                  under METAMD_WHEEL, from the build's Python
#   pkg-config                 plumedInternals or plumed
#   PATH                       what `plumed info --include-dir` says
# Also set: PLUMED_EXECUTABLE, where a program belongs to those headers (may be empty).
set(PLUMED_WHERE_LOOKED "set PLUMED_INCLUDE_DIR, or make pkg-config or PATH know plumed")

if(NOT PLUMED_INCLUDE_DIR AND METAMD_WHEEL)
  include(WheelPaths)
  metamd_wheel_dir(plumed _plumed_wheel)
  if(_plumed_wheel)
    set(PLUMED_INCLUDE_DIR "${_plumed_wheel}/_lib/include")
  endif()
  set(PLUMED_WHERE_LOOKED "the build environment has no hillclimber wheel")
endif()

if(NOT PLUMED_INCLUDE_DIR AND NOT METAMD_WHEEL)
  find_package(PkgConfig QUIET)
  if(PKG_CONFIG_FOUND)
    foreach(_name plumedInternals plumed)
      if(NOT PLUMED_INCLUDE_DIR)
        pkg_get_variable(_plumed_dir ${_name} includedir)
        # plumedInternals may name the folder of the headers or the one above it.
        foreach(_dir "${_plumed_dir}" "${_plumed_dir}/..")
          if(_plumed_dir AND NOT PLUMED_INCLUDE_DIR AND EXISTS "${_dir}/plumed/core/Action.h")
            set(PLUMED_INCLUDE_DIR "${_dir}")
          endif()
        endforeach()
      endif()
    endforeach()
  endif()
endif()

if(NOT PLUMED_INCLUDE_DIR AND NOT METAMD_WHEEL)
  find_program(PLUMED_EXECUTABLE plumed)
  if(PLUMED_EXECUTABLE)
    execute_process(COMMAND "${PLUMED_EXECUTABLE}" --no-mpi info --include-dir
                    OUTPUT_VARIABLE _plumed_dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
    if(EXISTS "${_plumed_dir}/plumed/core/Action.h")
      set(PLUMED_INCLUDE_DIR "${_plumed_dir}")
    endif()
  endif()
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(PLUMED REQUIRED_VARS PLUMED_INCLUDE_DIR)
if(PLUMED_FOUND AND NOT EXISTS "${PLUMED_INCLUDE_DIR}/plumed/core/Action.h")
  message(FATAL_ERROR "PLUMED_INCLUDE_DIR=${PLUMED_INCLUDE_DIR} has no plumed/core/Action.h")
endif()

if(PLUMED_FOUND AND NOT TARGET PLUMED::headers)
  add_library(PLUMED::headers INTERFACE IMPORTED)
  # PLUMED's headers name each other relative to plumed/ and to the folder above it.
  target_include_directories(PLUMED::headers INTERFACE "${PLUMED_INCLUDE_DIR}"
                                                       "${PLUMED_INCLUDE_DIR}/plumed")
endif()
