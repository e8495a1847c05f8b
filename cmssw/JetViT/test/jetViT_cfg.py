"""An example of a configuration: frames of RecoE2E in, scores and masses out, timed."""

import FWCore.ParameterSet.Config as cms

process = cms.Process("JETVIT")
process.load("FWCore.MessageService.MessageLogger_cfi")
process.source = cms.Source("PoolSource", fileNames=cms.untracked.vstring("file:frames.root"))
process.options.numberOfThreads = 4
process.options.numberOfStreams = 4

process.jetViT = cms.EDProducer(
    "JetViTProducer",
    frames=cms.InputTag("JetFrames"),
    # the order of RecoE2E; the model has another one, and the plugin sorts by name
    frameChannels=cms.vstring("track pT", "ECAL", "HCAL", "track d0", "track dz",
                              "BPIX 1", "BPIX 2", "BPIX 3"),
    model=cms.FileInPath("RecoJets/JetViT/data/model.onnx"))

process.Timing = cms.Service("Timing", summaryOnly=cms.untracked.bool(True))
process.SimpleMemoryCheck = cms.Service("SimpleMemoryCheck", ignoreTotal=cms.untracked.int32(1))
process.path = cms.Path(process.jetViT)
