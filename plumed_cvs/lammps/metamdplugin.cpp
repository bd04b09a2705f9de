// Entry point of the LAMMPS plugin: registers fix plumed.
//
// LAMMPS opens every *plugin.so in LAMMPS_PLUGIN_PATH when it starts, so this must
// work without PLUMED; the kernel is looked for when the fix is first used.
#include "fix_plumed.h"
#include "plugin_abi.h"

#include "comm.h"
#include "error.h"
#include "lammps.h"
#include "modify.h"
#include "utils.h"

#include <dlfcn.h>
#include <string>

using LAMMPS_NS::LAMMPS;

namespace {

/// 20250722 for 22 Jul 2025, or 0 if unknown.  Asked through the C library, whose
/// functions keep their form when the classes change.
int running_version(void* lmp) {
  auto* ask = reinterpret_cast<int (*)(void*)>(dlsym(RTLD_DEFAULT, "lammps_version"));
  return ask ? ask(lmp) : 0;
}

void* create_fix(LAMMPS* lmp, int narg, char** arg) {
  const int running = running_version(lmp);
  if (METAMD_LAMMPS_VERSION != 0 && running != 0 && running != METAMD_LAMMPS_VERSION) {
    lmp->error->all(FLERR, "This fix plumed was compiled for LAMMPS " +
                               std::to_string(METAMD_LAMMPS_VERSION) + " and runs in LAMMPS " +
                               std::to_string(running) +
                               "; rebuild metamd against the LAMMPS in use");
  }
  return new metamd::FixPlumed(lmp, narg, arg);
}

} // namespace

extern "C" void lammpsplugin_init(void* lammps, void* handle, void* register_function) {
  auto* lmp = static_cast<LAMMPS*>(lammps);
  if (lmp->modify && lmp->modify->fix_map->count("plumed")) {
    if (lmp->comm->me == 0) {
      LAMMPS_NS::utils::logmesg(lmp, "metamd: LAMMPS has its own fix plumed, which is kept\n");
    }
    return;
  }
  lammpsplugin_t plugin = {};
  plugin.style = "fix";
  plugin.name = "plumed";
  plugin.info = "fix plumed (metamd)";
  plugin.author = "The metamd developers";
  plugin.creator.v2 = reinterpret_cast<void* (*)(void*, int, char**)>(&create_fix);
  plugin.handle = handle;
  reinterpret_cast<lammpsplugin_regfunc>(register_function)(&plugin, lammps);
}
