// Everything in which PLUMED 2.9, 2.10 and 2.11 differ, and nothing else.
#pragma once

#include "core/ActionPilot.h"
#include "core/ActionRegister.h"
#include "core/Colvar.h"
#include "core/PlumedMain.h"

#if __has_include("config/version.h")
#include "config/version.h"
#endif
#if !defined(PLUMED_VERSION_MINOR)
// 2.9 does not install config/version.h, but has a header that went away after it.
#if __has_include("core/Atoms.h")
#define PLUMED_VERSION_MAJOR 2
#define PLUMED_VERSION_MINOR 9
#else
#error "cannot tell the version of this PLUMED: config/version.h is missing"
#endif
#endif
#if PLUMED_VERSION_MAJOR != 2 || PLUMED_VERSION_MINOR < 9
#error "metamd needs PLUMED 2.9 or newer"
#endif

#if PLUMED_VERSION_MINOR < 10
#include "core/Atoms.h"
#endif

#include <string>

namespace metamd::plumed {

#if PLUMED_VERSION_MINOR < 10
inline const PLMD::Units& units(PLMD::Action& a) { return a.plumed.getAtoms().getUnits(); }
inline bool natural_units(PLMD::Action& a) { return a.plumed.getAtoms().usingNaturalUnits(); }
/// kB T by TEMP or else by the MD code; 0 if neither knows it.
inline double parse_kbt(PLMD::Action& a) {
  double temperature = -1.0;
  a.parse("TEMP", temperature);
  return temperature >= 0.0 ? a.plumed.getAtoms().getKBoltzmann() * temperature
                            : a.plumed.getAtoms().getKbT();
}
inline void add_output(PLMD::Keywords& k, const std::string& name, const std::string& key,
                       const std::string& text) {
  k.addOutputComponent(name, key, text);
}
inline void components_always(PLMD::Keywords& k) {
  PLMD::ActionWithValue::componentsAreNotOptional(k);
}
/// Units are protected members of Action from 2.10 on: actions take them in through this.
#define METAMD_UNITS_OF_THIS                                                                       \
  metamd::plumed::HostUnits {                                                                      \
    metamd::plumed::units(*this).getLength(), metamd::plumed::units(*this).getEnergy(),            \
        metamd::plumed::units(*this).getTime(), metamd::plumed::natural_units(*this)               \
  }
#else
/// kB T by TEMP or else by the MD code; 0 if neither knows it.
inline double parse_kbt(PLMD::Action& a) { return a.getkBT(); }
inline void add_output(PLMD::Keywords& k, const std::string& name, const std::string& key,
                       const std::string& text) {
#if PLUMED_VERSION_MINOR < 11
  k.addOutputComponent(name, key, text);
#else
  k.addOutputComponent(name, key, "scalar", text);
#endif
}
inline void components_always(PLMD::Keywords&) {}
#define METAMD_UNITS_OF_THIS                                                                       \
  metamd::plumed::HostUnits {                                                                      \
    getUnits().getLength(), getUnits().getEnergy(), getUnits().getTime(), usingNaturalUnits()      \
  }
#endif

/// What PLUMED calls its units, and the way to Angstrom, eV and ps.
struct HostUnits {
  double length_nm, energy_kj_mol, time_in_ps;
  bool natural;

  /// PLUMED's own electronvolt, so that HEIGHT=0.05 under UNITS ENERGY=eV is 0.05 in the file.
  static constexpr double kElectronvoltKjMol = 96.48530749925792;

  /// Reduced units have no Angstrom: the numbers are kept as they are.
  double angstrom() const { return natural ? 1.0 : length_nm * 10.0; }
  double electronvolt() const { return natural ? 1.0 : energy_kj_mol / kElectronvoltKjMol; }
  double picosecond() const { return natural ? 1.0 : time_in_ps; }
};

} // namespace metamd::plumed
