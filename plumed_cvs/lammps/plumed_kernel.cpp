#include "plumed_kernel.h"

#include <algorithm>
#include <climits>
#include <cstdlib>
#include <dlfcn.h>
#include <mpi.h>
#include <sys/stat.h>
#include <unistd.h>

namespace metamd {
namespace {

constexpr char kernel_name[] = "libplumedKernel.so";

bool is_file(const std::string& path) {
  struct stat info;
  return stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode);
}

std::string parent(const std::string& path) {
  const auto slash = path.find_last_of('/');
  return slash == std::string::npos || slash == 0 ? std::string("/") : path.substr(0, slash);
}

std::string resolved(const std::string& path) {
  char buffer[PATH_MAX];
  return realpath(path.c_str(), buffer) ? buffer : path;
}

void append_if_file(std::vector<std::string>& list, const std::string& path) {
  if (is_file(path)) {
    list.push_back(path);
  }
}

/// `plumed` on PATH lies in <prefix>/bin, its kernel in one of <prefix>'s library folders.
/// Only the first plumed counts, as in a shell.
void append_from_path(std::vector<std::string>& list) {
  const char* path = std::getenv("PATH");
  if (!path) {
    return;
  }
  const std::string folders = path;
  for (std::size_t begin = 0; begin <= folders.size();) {
    const auto end = std::min(folders.find(':', begin), folders.size());
    const std::string program = folders.substr(begin, end - begin) + "/plumed";
    begin = end + 1;
    if (!is_file(program) || access(program.c_str(), X_OK) != 0) {
      continue;
    }
    // a link's own prefix first (spack, stow and modules link whole prefixes), then its target's
    for (const auto& prefix : {parent(parent(program)), parent(parent(resolved(program)))}) {
      for (const char* lib : {"/lib/", "/lib64/", "/lib/x86_64-linux-gnu/"}) {
        append_if_file(list, prefix + lib + kernel_name);
      }
    }
    // a build folder that was never installed: src/lib/plumed beside its kernel
    append_if_file(list, parent(resolved(program)) + "/" + kernel_name);
    return;
  }
}

/// The plugin lies in <site-packages>/metamd/lib, the wheel's kernel in
/// <site-packages>/plumed/_lib.
void append_from_wheel(std::vector<std::string>& list) {
  Dl_info self;
  if (dladdr(reinterpret_cast<const void*>(&kernel_candidates), &self) && self.dli_fname) {
    const std::string site = parent(parent(parent(resolved(self.dli_fname))));
    append_if_file(list, site + "/plumed/_lib/lib/" + kernel_name);
  }
}

/// The wheel was built for another folder than the one it lies in; PLUMED looks there for the
/// scripts that LOAD needs to compile a .cpp file.
void point_to_scripts(const std::string& kernel) {
  const std::string root = parent(resolved(kernel)) + "/plumed";
  if (is_file(root + "/scripts/mklib.sh")) {
    setenv("PLUMED_ROOT", root.c_str(), 0);
  }
}

PlumedKernel open_kernel(const std::string& path) {
  point_to_scripts(path);
  // RTLD_GLOBAL: shared objects that PLUMED's LOAD opens find PLUMED's symbols here.
  // RTLD_DEEPBIND: a kernel linked to another libmpi or LAPACK keeps its own, as in PLUMED's
  // wrapper.
  void* handle = dlopen(path.c_str(), RTLD_NOW | RTLD_GLOBAL | RTLD_DEEPBIND);
  if (!handle) {
    const char* why = dlerror();
    throw PlumedError(why ? why : "cannot open " + path);
  }
  PlumedKernel kernel{path, {}, false};
  if (const auto* table = static_cast<const SymbolTable*>(dlsym(handle, "plumed_symbol_table"))) {
    // the table is filled by PLUMED's static constructors, or by this call in a static build
    if (auto* init = reinterpret_cast<void (*)()>(dlsym(handle, "plumed_symbol_table_init"))) {
      init();
    }
    kernel.table = {table->version, table->create, table->cmd, table->finalize,
                    table->version >= 2 ? table->cmd_nothrow : nullptr};
  } else {
    throw PlumedError(path + " is no PLUMED kernel, or older than PLUMED 2.5");
  }
  void* const theirs = dlsym(handle, "MPI_Comm_rank");
  kernel.shares_mpi = theirs && theirs == reinterpret_cast<void*>(&MPI_Comm_rank);
  return kernel;
}

struct CaughtError {
  bool raised = false;
  std::string message;
};

/// PLUMED frames its messages with empty lines.
std::string trimmed(const std::string& text) {
  const auto first = text.find_first_not_of(" \n");
  const auto last = text.find_last_not_of(" \n");
  return first == std::string::npos ? text : text.substr(first, last - first + 1);
}

void remember(void* self, int, const char* message, const void*) {
  auto* caught = static_cast<CaughtError*>(self);
  caught->raised = true;
  try {
    caught->message = message ? trimmed(message) : "unknown error";
  } catch (...) {
    // out of memory while reporting: the flag alone must do
  }
}

} // namespace

std::vector<std::string> kernel_candidates() {
  std::vector<std::string> list;
  const char* named = std::getenv("PLUMED_KERNEL");
  if (named && *named) {
    list.emplace_back(named);
    return list;
  }
  append_from_path(list);
  append_from_wheel(list);
  return list;
}

const PlumedKernel& plumed_kernel() {
  static const PlumedKernel kernel = [] {
    std::string tried;
    for (const auto& path : kernel_candidates()) {
      try {
        return open_kernel(path);
      } catch (const PlumedError& error) {
        tried += "\n  " + path + ": " + error.what();
      }
    }
    throw PlumedError("No usable PLUMED kernel (libplumedKernel.so) was found." + tried +
                      "\nSet PLUMED_KERNEL to its full path, put PLUMED's bin folder on PATH, or "
                      "install the wheel that carries one: pip install --no-deps hillclimber");
  }();
  return kernel;
}

PlumedSession::PlumedSession(const PlumedKernel& kernel)
    : table_(kernel.table), plumed_(kernel.table.create()) {
  if (!plumed_) {
    throw PlumedError("PLUMED could not be started from " + kernel.path);
  }
}

PlumedSession::~PlumedSession() {
  try {
    table_.finalize(plumed_);
  } catch (...) {
    // PLUMED closes its files here; a full disk must not take LAMMPS down
  }
}

void PlumedSession::cmd(const char* key, const void* value) {
  CaughtError caught;
  if (table_.cmd_nothrow) {
    table_.cmd_nothrow(plumed_, key, value, NothrowHandler{&caught, &remember});
  } else {
    try {
      table_.cmd(plumed_, key, value);
    } catch (const std::exception& error) {
      remember(&caught, 0, error.what(), nullptr);
    } catch (...) {
      remember(&caught, 0, nullptr, nullptr);
    }
  }
  if (caught.raised) {
    throw PlumedError(caught.message);
  }
}

} // namespace metamd
