// Finding PLUMED at run time and talking to it through its C functions.
//
// Nothing of PLUMED is needed to compile or to load this plugin: the kernel is
// opened when the first fix plumed is defined, so that lmp starts without one.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

namespace metamd {

/// A failure inside PLUMED or on the way to it; what() is for the person at the screen.
struct PlumedError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// PLUMED's own "call me instead of throwing" record (Plumed.h: plumed_nothrow_handler).
struct NothrowHandler {
  void* self;
  void (*handler)(void* self, int code, const char* message, const void* options);
};

/// Head of PLUMED's plumed_symbol_table; newer kernels append to it, never reorder.
struct SymbolTable {
  int version;
  void* (*create)();
  void (*cmd)(void*, const char*, const void*);
  void (*finalize)(void*);
  void (*cmd_nothrow)(void*, const char*, const void*, NothrowHandler); ///< version >= 2
};

/// An opened kernel.  Never closed: PLUMED registers its actions in static objects.
struct PlumedKernel {
  std::string path;
  SymbolTable table;
  bool shares_mpi; ///< the kernel calls the same libmpi as LAMMPS: it can be given a communicator
};

/// Candidates in search order: PLUMED_KERNEL, `plumed` on PATH, the wheel beside this plugin.
/// PLUMED_KERNEL is final: when it is set nothing else is tried.
std::vector<std::string> kernel_candidates();

/// Opens the first kernel that works, once per process; throws PlumedError.
const PlumedKernel& plumed_kernel();

/// One PLUMED instance.  Exceptions in PLUMED leave as PlumedError.
class PlumedSession {
public:
  explicit PlumedSession(const PlumedKernel& kernel);
  ~PlumedSession();
  PlumedSession(const PlumedSession&) = delete;
  PlumedSession& operator=(const PlumedSession&) = delete;

  void cmd(const char* key, const void* value = nullptr);

private:
  const SymbolTable table_;
  void* plumed_;
};

} // namespace metamd
