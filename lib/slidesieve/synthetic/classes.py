"""The forty things a toy tile can show, by kind, and the colours of their pigments."""

TISSUES = ("stroma", "fat", "muscle", "epithelium", "mucosa", "cartilage", "nerve", "gland")
FINDINGS = ("necrosis", "mitosis", "fibrosis", "cyst", "calcification", "abscess", "granuloma", "thrombus")
GRADES = ("low", "intermediate", "high", "undifferentiated", "papillary", "solid", "cribriform", "trabecular")
DECOYS = (
    "ink-blue",
    "ink-green",
    "fold",
    "bubble",
    "haemosiderin",
    "melanin",
    "anthracosis",
    "haemorrhage",
    "lymphoid",
    "suture",
    "chatter",
    "mucin",
    "oedema",
    "foam",
    "crush",
    "plasma-cells",
)
BY_KIND = {"tissue": TISSUES, "finding": FINDINGS, "grade": GRADES, "decoy": DECOYS}
CLASSES = TISSUES + FINDINGS + GRADES + DECOYS
KIND = {name: kind for kind, names in BY_KIND.items() for name in names}
INDEX = {name: i for i, name in enumerate(CLASSES)}
# optical density per unit of pigment in R, G, B; classes that are not named have no third pigment
PIGMENT_OD = {
    "ink-blue": (1.10, 0.75, 0.18),
    "ink-green": (1.05, 0.30, 0.80),
    "haemosiderin": (0.25, 0.62, 1.15),
    "melanin": (0.75, 0.95, 1.15),
    "anthracosis": (1.20, 1.20, 1.15),
    "haemorrhage": (0.12, 0.85, 0.80),
    "suture": (0.55, 0.25, 0.10),
    "mucin": (0.42, 0.20, 0.08),
    "cartilage": (0.34, 0.30, 0.10),
    "calcification": (0.75, 0.85, 0.30),
    "bubble": (0.60, 0.58, 0.52),
}
