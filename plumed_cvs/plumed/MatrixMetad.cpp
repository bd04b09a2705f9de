#include "HillsFile.h"
#include "MatrixInput.h"
#include "MetadInput.h"

#include "bias.h"
#include "random.h"

#include "tools/Communicator.h"
#include "tools/OFile.h"

#include <limits>
#include <memory>

namespace metamd::plumed {

//+PLUMEDOC METAMD_BIAS MATRIX_METAD
/*
Metadynamics on the whole matrix of pair distances.

Every PACE steps a bump is put on the present matrix D:

V = sum_a h_a exp( -1/2 sum_{i<j} (D_ij-D^a_ij)^2 / SIGMA^2 )

\plumedfile
LOAD FILE=libmetamd_plumed.so
UNITS LENGTH=A ENERGY=eV
MATRIX_METAD GROUP=1-9 SPECIES=C,C,O,H*6 SIGMA=0.2 HEIGHT=0.03 PACE=20 LABEL=b
PRINT ARG=b.* FILE=COLVAR STRIDE=10
\endplumedfile
*/
//+ENDPLUMEDOC

class MatrixMetad : public PLMD::Colvar, public PLMD::ActionPilot {
public:
  static void registerKeywords(PLMD::Keywords& keys);
  explicit MatrixMetad(const PLMD::ActionOptions& options);
  void calculate() override;
  void apply() override;
  void update() override;

private:
  void open_files();
  /// All new hills of another walker into the bias.
  void read_hills(HillsReader& reader);
  HillKind kind() const {
    return {input_, metad_.bias.sigma, metad_.biasfactor, bias_->matrix().count()};
  }
  void deposit();
  void read_walkers();
  std::string walker_path(int id) const;
  HillFrame hill_here(double height_ev) const;
  void set_outputs();

  HostUnits units_;
  MatrixInput input_;
  MetadInput metad_;
  std::unique_ptr<MatrixBias> bias_;
  double last_height_ev_ = 0.0;
  long long last_step_ = std::numeric_limits<long long>::min();
  bool check_newer_ = false;
  std::uint64_t own_hills_ = 0;
  std::vector<HillsReader> readers_;
  HillsWriter writer_;
  std::vector<Vec3> x_;
  Cell cell_;
};

PLUMED_REGISTER_ACTION(MatrixMetad, "MATRIX_METAD")

void MatrixMetad::registerKeywords(PLMD::Keywords& keys) {
  PLMD::Colvar::registerKeywords(keys);
  PLMD::ActionPilot::registerKeywords(keys);
  keys.use("RESTART");
  keys.use("UPDATE_FROM");
  keys.use("UPDATE_UNTIL");
  keys.add("hidden", "STRIDE", "the frequency with which the forces of the bias are applied");
  register_matrix_keywords(keys);
  register_metad_keywords(keys);
  components_always(keys);
  add_output(keys, "bias", "default", "the bias potential");
  add_output(keys, "nhills", "default", "the number of hills, those of other walkers included");
  add_output(keys, "active", "default", "the number of hills looked at in this step");
  add_output(keys, "height", "default", "the height of the last hill added here");
  add_output(keys, "work", "default", "the work done so far by changes of the hills");
}

MatrixMetad::MatrixMetad(const PLMD::ActionOptions& options)
    : Action(options), Colvar(options), ActionPilot(options), units_(METAMD_UNITS_OF_THIS) {
  input_ = parse_matrix(*this, units_.angstrom());
  metad_ = parse_metad(*this, getStride(), input_.metric, units_);
  checkRead();
  // From 2.10 on PLUMED returns forces to the host only for actions that say they have
  // derivatives, wherever the host does not pass all atoms in order.
  turnOnDerivatives();
  guarded(*this, [&] { bias_ = std::make_unique<MatrixBias>(input_.selection, metad_.bias); });
  for (const char* name : {"bias", "nhills", "active", "height", "work"}) {
    if (std::string(name) == "bias") {
      addComponentWithDerivatives(name);
    } else {
      addComponent(name);
    }
    componentIsNotPeriodic(name);
  }
  log.printf("  matrix of %lld pairs of %zu atoms, METRIC=%s, SIGMA=%s in Angstrom\n",
             static_cast<long long>(bias_->matrix().count()), input_.atoms.size(),
             metric_name(input_.metric.kind), metad_.bias.sigma.text().c_str());
  guarded(*this, [this] { open_files(); });
  requestAtoms(input_.atoms);
}

std::string MatrixMetad::walker_path(int id) const {
  const std::string folder = metad_.walkers_dir.empty() ? "" : metad_.walkers_dir + "/";
  return folder + metad_.file + "." + std::to_string(id);
}

void MatrixMetad::open_files() {
  const bool many = metad_.walkers > 1;
  std::string own = many ? walker_path(metad_.walker) : metad_.file;
  own = PLMD::FileBase::appendSuffix(own, plumed.getSuffix());
  const bool use_old = getRestart() || metad_.pace == 0;
  if (use_old) {
    HillsReader reader(own);
    if (!reader.exists()) {
      error("FILE: there is no hills file " + own +
            (metad_.pace == 0 ? ", and PACE=0 needs one" : " to restart from"));
    }
    const std::uint64_t torn = reader.read_new([&](const HillFrame& hill) {
      kind().check(hill, own);
      bias_->add(hill.positions_ang, Cell(hill.cell_ang), hill.height_ev, MatrixBias::kFirstStep);
      last_step_ = hill.step;
      last_height_ev_ = hill.height_ev;
      ++own_hills_;
    });
    log.printf("  read %zu hills from %s\n", reader.hills(), own.c_str());
    if (torn > 0) {
      warning("the last hill of " + own + " is torn (" + std::to_string(torn) +
              " bytes): it is left out" + (metad_.pace > 0 ? " and cut off the file" : ""));
      comm.Barrier();
      if (metad_.pace > 0 && comm.Get_rank() == 0) {
        cut_file(own, reader.offset());
      }
    }
    check_newer_ = reader.hills() > 0 && metad_.pace > 0;
  } else {
    // PLUMED's own file class moves an older file out of the way, as for METAD.  All ranks
    // call it: it has a barrier inside and touches the file on rank 0 only.
    PLMD::OFile backup;
    backup.link(*this);
    backup.open(many ? walker_path(metad_.walker) : metad_.file);
    backup.close();
  }
  if (metad_.pace > 0 && comm.Get_rank() == 0) {
    writer_.open_append(own);
  }
  for (int id = 0; many && id < metad_.walkers; ++id) {
    if (id != metad_.walker) {
      readers_.emplace_back(walker_path(id));
    }
  }
  if (getRestart()) {
    for (HillsReader& reader : readers_) {
      if (reader.exists()) {
        read_hills(reader);
      }
    }
  }
}

void MatrixMetad::read_hills(HillsReader& reader) {
  reader.read_new([&](const HillFrame& hill) {
    kind().check(hill, reader.path());
    bias_->add(hill.positions_ang, Cell(hill.cell_ang), hill.height_ev, MatrixBias::kFirstStep);
  });
}

void MatrixMetad::calculate() {
  copy_positions(getPositions(), units_.angstrom(), x_);
  cell_ = input_.periodic ? make_cell(getBox(), units_.angstrom()) : Cell();
  if (check_newer_) {
    check_newer_ = false;
    if (last_step_ > getStep()) {
      warning("FILE has hills up to step " + std::to_string(last_step_) +
              ", newer than this run's first step " + std::to_string(getStep()) +
              ": they were added after the state that the MD code restarts from");
    }
  }
  guarded(*this, [this] { bias_->evaluate(x_, cell_, getStep()); });
  set_outputs();
  PLMD::Value* bias = getPntrToComponent("bias");
  const double slope = units_.angstrom() / units_.electronvolt();
  for (std::size_t a = 0; a < x_.size(); ++a) {
    const Vec3& g = bias_->gradient()[a];
    setAtomsDerivatives(bias, static_cast<int>(a), PLMD::Vector(g[0], g[1], g[2]) * slope);
  }
  setBoxDerivatives(bias, to_tensor(bias_->virial()) * (1.0 / units_.electronvolt()));
}

void MatrixMetad::set_outputs() {
  const double ev = units_.electronvolt();
  getPntrToComponent("bias")->set(bias_->energy() / ev);
  getPntrToComponent("nhills")->set(double(bias_->hills()));
  getPntrToComponent("active")->set(double(bias_->active()));
  getPntrToComponent("height")->set(last_height_ev_ / ev);
  getPntrToComponent("work")->set(bias_->work() / ev);
}

void MatrixMetad::apply() {
  // A bias is a potential: its force on itself is -1 (times the stride, as for every bias).
  if (onStep()) {
    getPntrToComponent("bias")->addForce(-double(getStride()));
  }
  Colvar::apply();
}

void MatrixMetad::update() {
  // A step is met again when a host runs on from where it stopped; step 0 is the start.
  const long long step = getStep();
  if (metad_.pace > 0 && step % metad_.pace == 0 && step != 0 && step != last_step_) {
    guarded(*this, [this] { deposit(); });
  }
  if (!readers_.empty() && step % metad_.walkers_rstride == 0) {
    guarded(*this, [this] { read_walkers(); });
  }
}

void MatrixMetad::deposit() {
  double height = metad_.height_ev;
  if (metad_.random) {
    height *= uniform(std::uint64_t(metad_.seed), own_hills_);
  }
  if (metad_.biasfactor > 0.0) {
    height *= std::exp(-bias_->energy() / (metad_.kbt_ev * (metad_.biasfactor - 1.0)));
  }
  last_step_ = getStep();
  if (comm.Get_rank() == 0) {
    writer_.append(hill_here(height));
  }
  bias_->add_here(x_, cell_, height, getStep());
  last_height_ev_ = height;
  ++own_hills_;
}

void MatrixMetad::read_walkers() {
  const std::size_t before = bias_->hills();
  for (HillsReader& reader : readers_) {
    if (reader.exists()) {
      read_hills(reader);
    }
  }
  if (bias_->hills() > before) {
    bias_->recount(x_, cell_, getStep());
  }
}

HillFrame MatrixMetad::hill_here(double height_ev) const {
  HillFrame out = kind().blank();
  out.step = getStep();
  out.time_ps = getTime() * units_.picosecond();
  out.height_ev = height_ev;
  out.periodic = cell_.periodic();
  out.cell_ang = cell_.rows();
  out.positions_ang = x_;
  return out;
}

} // namespace metamd::plumed
