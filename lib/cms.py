"""Names and sizes of the CMS jet images, in one place.

Rows are η, columns φ. Sources: CMS, JINST 3 (2008) S08004; resolutions: ECAL, JINST 8 (2013)
P09009; HCAL with ECAL, JINST 12 (2017) P10003."""

import math

# 1 and 2 in the order that the published numbers of pixels suggest: see `Event._tracks`
CHANNELS = ("track pT", "track d0", "track dz", "ECAL", "HCAL", "BPIX 1", "BPIX 2", "BPIX 3")
SIZE = 125  # pixels a side of an image
PIXEL = math.pi / 180  # size of a pixel in η and in φ: one barrel crystal
TOWER = 5  # pixels a side of an HCAL tower
ECAL_RESOLUTION = (0.028, 0.12, 0.003)  # σ/E: stochastic √GeV, noise GeV, constant
HCAL_RESOLUTION = (1.10, 0.07)  # σ/E: stochastic √GeV, constant
PUBLIC = {"labelled": "Dataset_Specific_labelled_full_only_for_2i.h5",
          "unlabelled": "Dataset_Specific_Unlabelled.h5"}  # the published files
