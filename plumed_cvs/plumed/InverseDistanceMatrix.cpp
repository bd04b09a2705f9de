#include "MatrixInput.h"
#include "ReferenceFiles.h"

#include "cv.h"

#include <memory>

namespace metamd::plumed {

//+PLUMEDOC METAMD_COLVAR INVERSE_DISTANCE_MATRIX
/*
Collective variables of the matrix of all pair distances.

The matrix holds D_ij = 1/r_ij (or what METRIC says) for every pair of the chosen atoms.

\plumedfile
LOAD FILE=libmetamd_plumed.so
m: INVERSE_DISTANCE_MATRIX GROUP=1-9 REFERENCE=start.xyz
METAD ARG=m.dist-1 SIGMA=0.5 HEIGHT=1.0 PACE=100
\endplumedfile
*/
//+ENDPLUMEDOC

class InverseDistanceMatrix : public PLMD::Colvar {
public:
  static void registerKeywords(PLMD::Keywords& keys);
  explicit InverseDistanceMatrix(const PLMD::ActionOptions& options);
  void calculate() override;

private:
  void add(const std::string& name);
  void read_references(const std::string& path);
  void read_pca(const std::string& path);
  void add_pairs();
  /// Give a component its value and derivatives.
  void set(PLMD::Value* value, const PairFunction& f);

  HostUnits units_;
  MatrixInput input_;
  std::unique_ptr<DistanceMatrix> matrix_;
  std::vector<ReferenceMatrix> references_;
  PcaFile pca_;
  bool pairs_ = false, first_ = true;
  std::vector<Vec3> x_, gradient_;
};

PLUMED_REGISTER_ACTION(InverseDistanceMatrix, "INVERSE_DISTANCE_MATRIX")

void InverseDistanceMatrix::registerKeywords(PLMD::Keywords& keys) {
  PLMD::Colvar::registerKeywords(keys);
  register_matrix_keywords(keys);
  keys.add("optional", "REFERENCE",
           "an XYZ file of the atoms of the matrix, in their order and in Angstrom: dist-1, "
           "dist-2... are the distances |D-D_k| to its frames, every pair counted once");
  keys.add("optional", "PCA",
           "a file of principal components as 'metamd pca' writes it: pc-1, pc-2... are the "
           "projections of D");
  keys.addFlag(
      "PAIRS", false,
      "one component for each element of the matrix, pair-i-j with serial numbers i and j");
  components_always(keys);
  add_output(keys, "mean", "default", "the mean of D over all pairs of the matrix");
  add_output(keys, "dist", "REFERENCE", "the distance in matrix space to a frame of REFERENCE");
  add_output(keys, "pc", "PCA", "the projection on a principal component");
  add_output(keys, "pair", "PAIRS", "one element of the matrix");
}

InverseDistanceMatrix::InverseDistanceMatrix(const PLMD::ActionOptions& options)
    : PLUMED_COLVAR_INIT(options), units_(METAMD_UNITS_OF_THIS) {
  input_ = parse_matrix(*this, units_.angstrom());
  if (input_.metric.kind == MetricKind::Screened) {
    error("METRIC=SCREENED is the measure of a bump, with no matrix behind it: use it in "
          "MATRIX_METAD, and INVERSE or DISTANCE here");
  }
  std::string reference, pca;
  parse("REFERENCE", reference);
  parse("PCA", pca);
  parseFlag("PAIRS", pairs_);
  checkRead();

  MatrixOptions matrix;
  matrix.metric = input_.metric;
  // Components by pair need every pair to keep its place.
  matrix.dense = pairs_ || !pca.empty();
  matrix_ = std::make_unique<DistanceMatrix>(input_.selection, matrix);
  log.printf("  matrix of %lld pairs of %zu atoms, METRIC=%s\n",
             static_cast<long long>(matrix_->count()), input_.atoms.size(),
             metric_name(input_.metric.kind));
  add("mean");
  if (!reference.empty()) {
    read_references(reference);
  }
  if (!pca.empty()) {
    read_pca(pca);
  }
  if (pairs_) {
    add_pairs();
  }
  requestAtoms(input_.atoms);
}

void InverseDistanceMatrix::add(const std::string& name) {
  addComponentWithDerivatives(name);
  componentIsNotPeriodic(name);
}

void InverseDistanceMatrix::read_references(const std::string& path) {
  try {
    for (const XyzFrame& frame : read_xyz(path)) {
      if (frame.positions_ang.size() != input_.atoms.size()) {
        error("REFERENCE " + path + ": frame " + std::to_string(references_.size() + 1) + " has " +
              std::to_string(frame.positions_ang.size()) + " atoms, the matrix has " +
              std::to_string(input_.atoms.size()));
      }
      references_.emplace_back(frame.positions_ang,
                               input_.periodic ? Cell(frame.cell_ang) : Cell());
    }
  } catch (const std::runtime_error& wrong) {
    error("REFERENCE: " + std::string(wrong.what()));
  }
  for (std::size_t k = 0; k < references_.size(); ++k) {
    add("dist-" + std::to_string(k + 1));
  }
}

void InverseDistanceMatrix::read_pca(const std::string& path) {
  try {
    pca_ = metamd::plumed::read_pca(path, *matrix_);
  } catch (const std::runtime_error& wrong) {
    error("PCA: " + std::string(wrong.what()));
  }
  for (std::size_t k = 0; k < pca_.components.size(); ++k) {
    add("pc-" + std::to_string(k + 1));
  }
}

void InverseDistanceMatrix::add_pairs() {
  for (std::size_t p = 0; p < matrix_->size(); ++p) {
    add("pair-" + std::to_string(input_.ids[matrix_->pairs().i[p]]) + "-" +
        std::to_string(input_.ids[matrix_->pairs().j[p]]));
  }
}

void InverseDistanceMatrix::set(PLMD::Value* value, const PairFunction& f) {
  gradient_.assign(x_.size(), Vec3{0, 0, 0});
  Mat3 virial{};
  matrix_->chain(f.dv_dd.data(), gradient_, virial);
  // D is 1/length or length; its value and derivatives go back to PLUMED's units.
  const double to_host =
      input_.metric.kind == MetricKind::Inverse ? units_.angstrom() : 1.0 / units_.angstrom();
  const double slope = to_host * units_.angstrom();
  for (std::size_t a = 0; a < x_.size(); ++a) {
    setAtomsDerivatives(value, static_cast<int>(a),
                        PLMD::Vector(gradient_[a][0], gradient_[a][1], gradient_[a][2]) * slope);
  }
  setBoxDerivatives(value, to_tensor(virial) * to_host);
  value->set(f.value * to_host);
}

void InverseDistanceMatrix::calculate() {
  copy_positions(getPositions(), units_.angstrom(), x_);
  bool renewed = false;
  try {
    renewed =
        matrix_->update(x_, input_.periodic ? make_cell(getBox(), units_.angstrom()) : Cell());
  } catch (const std::runtime_error& wrong) {
    error(wrong.what());
  }
  if (renewed || first_) {
    for (ReferenceMatrix& r : references_) {
      r.project(*matrix_);
    }
    first_ = false;
  }
  int next = 0;
  set(getPntrToComponent(next++), matrix_mean(*matrix_));
  for (const ReferenceMatrix& r : references_) {
    set(getPntrToComponent(next++), r.distance(*matrix_));
  }
  for (const std::vector<double>& c : pca_.components) {
    set(getPntrToComponent(next++), matrix_projection(*matrix_, pca_.mean, c));
  }
  if (pairs_) {
    PairFunction f{0.0, std::vector<double>(matrix_->size(), 0.0)};
    for (std::size_t p = 0; p < matrix_->size(); ++p) {
      f.value = matrix_->d(p);
      f.dv_dd[p] = 1.0;
      set(getPntrToComponent(next++), f);
      f.dv_dd[p] = 0.0;
    }
  }
}

} // namespace metamd::plumed
