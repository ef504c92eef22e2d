"""Write what a keyboard's recorder saves: a worship ballad in 12/8 under human fingers, said to be 120 in 4/4."""

import sys

import mido

from plagal.music.arranger.arrange import arrange
from plagal.music.performance.performer import perform

played = perform(arrange("amazing_grace", "worship", "G", 66, seed=5, bars=16, metre=(12, 8)), seed=3).played
keys = [(onset, int(pitch), int(velocity)) for onset, pitch, _, velocity in played.notes]
keys += [(onset + held, int(pitch), 0) for onset, pitch, held, _ in played.notes]
track, now = mido.MidiTrack(), 0
for second, pitch, velocity in sorted(keys):
    tick = round(second * 960)
    track.append(mido.Message("note_on", note=pitch, velocity=velocity, time=tick - now))
    now = tick
file = mido.MidiFile(ticks_per_beat=480)
file.tracks.append(track)
file.save(sys.argv[1])
