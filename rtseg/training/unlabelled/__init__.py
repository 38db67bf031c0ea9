"""Learning from pictures without labels: weak-to-strong consistency after UniMatch (Yang et al. 2023, "Revisiting
Weak-to-Strong Consistency in Semi-Supervised Semantic Segmentation", CVPR, arXiv 2208.09910).

The network labels a weak view of a picture (scaled, cropped, flipped). Where it is confident, it must predict the same
for two strong views of the same crop: other light and colours, and a piece of another picture pasted in (CutMix, Yun
2019).

Deviations: no third stream with dropped features (our networks have no common place between trunk and decoder, and it
would make a step a third longer), so the two strong views share its weight; labels and logits are compared at the
logits' size; classes are weighted as in the labelled term; pasted pieces come from the batch's pictures.
"""
