//! The published layouts by name. One file each; what they share is in [`super::tree`].

use std::path::Path;

use clap::ValueEnum;

use super::tree::Found;
use crate::outcome::Outcome;

mod bmad;
mod btad;
mod cvc300;
mod cvc_clinicdb;
mod cvc_colondb;
mod folder;
mod kvasir;
mod mpdd;
mod mvtec;
mod rsdd;
mod visa;

/// A published layout, as the command line spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Layout {
    /// MVTec-AD: CLASS/{train/good, test/DEFECT, ground_truth/DEFECT}.
    #[value(alias = "mvtec-ad")]
    Mvtec,
    /// VisA: CLASS/Data/{Images/{Normal, Anomaly}, Masks/Anomaly}, split_csv/1cls.csv.
    Visa,
    /// BTAD: {01, 02, 03}/{train/ok, test/{ok, ko}, ground_truth/ko}.
    Btad,
    /// MPDD: CLASS/{train/good, test/DEFECT, ground_truth/DEFECT}.
    Mpdd,
    /// RSDDs rail surfaces: Type-I RSDDs dataset/{Rail surface images, GroundTruth}, and Type-II.
    #[value(alias = "rsdds")]
    Rsdd,
    /// CVC-ColonDB: {images, masks}.
    #[value(alias = "colondb")]
    CvcColondb,
    /// CVC-ClinicDB: {Original, Ground Truth}, also in PNG/ or TIF/.
    #[value(alias = "clinicdb")]
    CvcClinicdb,
    /// Kvasir-SEG: {images, masks}.
    #[value(alias = "kvasir-seg")]
    Kvasir,
    /// CVC-300: {images, masks}.
    #[value(name = "cvc-300", alias = "cvc300")]
    Cvc300,
    /// BMAD's BrainMRI: {train/good, valid, test/{good/img, Ungood/{img, label}}}.
    #[value(alias = "brain")]
    BmadBrain,
    /// BMAD's Liver CT, likewise.
    #[value(alias = "liver")]
    BmadLiver,
    /// BMAD's Retina OCT (RESC), likewise.
    #[value(alias = "retina")]
    BmadRetina,
    /// One's own: {good, defect, masks}, or CLASS/{good, defect, masks}.
    Folder,
}

impl Layout {
    /// Every picture under `root`, sorted by class and path. An error says what was wanted where `root` does not look like the layout.
    pub(super) fn find(self, root: &Path) -> Outcome<Vec<Found>> {
        match self {
            Self::Mvtec => mvtec::find(root),
            Self::Visa => visa::find(root),
            Self::Btad => btad::find(root),
            Self::Mpdd => mpdd::find(root),
            Self::Rsdd => rsdd::find(root),
            Self::CvcColondb => cvc_colondb::find(root),
            Self::CvcClinicdb => cvc_clinicdb::find(root),
            Self::Kvasir => kvasir::find(root),
            Self::Cvc300 => cvc300::find(root),
            Self::BmadBrain => bmad::find(root, "Brain"),
            Self::BmadLiver => bmad::find(root, "Liver"),
            Self::BmadRetina => bmad::find(root, "Retina"),
            Self::Folder => folder::find(root),
        }
    }
}
