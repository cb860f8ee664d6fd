"""Published files of questions, known by what they hold: which version a file is, or that nobody here knows it.

A file is known by the sha256 of its content (of what is unpacked, where it is packed). One of another sha256, but of as
many rows about as many slides as a known version, is said to be that, and another file: rows may have been renamed,
put in order, or changed. Fewer than DISTINCT rows tell nothing. All other files are of a version not known.

SlideChat 975a735 and WSI-LLaVA 7a98bbc are the revisions that SLICEChat pins, with each file's sha256 and with the
counts after its exclusions (slides without mpp, slides that the GDC has no more) and corrections; counts before these
are sums of its own. SlideChat's c8128b9 has the same BCNB. WSI-LLaVA 4935038, of which the rows of TCGA-BRCA are left
out, was counted. WSI-VQA's counts are its paper's (arXiv 2407.05603), of train, val and test together.
"""

import gzip
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from slidesieve.provenance.files import hash_file

UNKNOWN = "not known"
DISTINCT = 1000
CHUNK = 1 << 20
SLIDECHAT, WSILLAVA = "SlideChat 975a735", "WSI-LLaVA 7a98bbc"
CURATED = "as SLICEChat excludes and corrects"
NO_BRCA = "WSI-LLaVA 4935038 without TCGA-BRCA"


class Published(NamedTuple):
    """A version of a file, or of files taken together; what is not known of it is None."""

    name: str
    source: str
    sha256: str | None = None
    rows: int | None = None
    slides: int | None = None

    def __str__(self) -> str:
        return f"{self.name}, {self.source}"


WHOLE = (
    Published(
        "SlideInstruct stage 1 captions", SLIDECHAT, "70f6a91819ec208db89800806ef6d1fa94b9ab44086c71fc72f449ac7e2a5cbd",
        4_181, 4_181,
    ),
    Published(
        "SlideInstruct stage 2 VQA", SLIDECHAT, "8dcd8a9b306287524e002cd781172463d7256e11d79c6de3d41f3a8e2cf2f8e5",
        175_734,
    ),
    Published(
        "SlideBench-VQA-TCGA", SLIDECHAT, "668d063d81ee50974f8f9666787f155c8f59443bc47caa08bbb5f9e4a9fa020b",
        1_494, 591,
    ),
    Published(
        "SlideBench-VQA-BCNB", SLIDECHAT, "10b83c6177bd13bee9471fb0bd54b7d500e7eccdb7e52b462424ed50cb259e0b",
        7_274, 1_058,
    ),
    Published("SlideBench-VQA-TCGA without the 8 slides that have no mpp", SLIDECHAT, None, 1_473, 583),
    Published("SlideInstruct captions and VQA", f"{SLIDECHAT} {CURATED}", None, 178_588, 4_152),
    Published("SlideInstruct captions", f"{SLIDECHAT} {CURATED}", None, 4_152, 4_152),
    Published("WSI-Bench train, 16 files", WSILLAVA, None, 177_174, 9_868),
    Published("WSI-Bench train, 16 files", f"{WSILLAVA} {CURATED}", None, 172_305, 9_596),
    Published("WSI-Bench open test, 11 files", WSILLAVA, None, 2_837, 757),
    Published("WSI-Bench open test, 11 files", f"{WSILLAVA} {CURATED}", None, 2_799, 739),
    Published("WSI-VQA train, val and test", "arXiv 2407.05603", None, 8_672, 977),
)  # fmt: skip
WSI_BENCH = """
1_Report_train b1bbfecba19754ffc64f66e2c3b4f4867a8070f3211cc2ce779fe952fc257332
1_Report_test 76b66f2f903e6efcaef9cf3edf40348653c18560a4f34989682135b2d8d38315
Diagnosis_choice_train 782652c68a3a08c1210db23d719e34bfa7a7f6ed5f4ff9f9b48fab4dbec5ec2c
Global_Morphology_Description_train baf5873661ea0adb080b68f2d4ce2ee51964f5c40b8cf5cff881986815fcf1e4
Global_Morphology_Description_test a1ece5ead42ae637bdd2427323976d913f567ade77b0238fea806680ff9f503e
Grading_train 3a5529597707f807c2e1c1e43726bf5ac5c7e9ee50e5fc14afcb95ff5e3cb636
Grading_test 9888566e62bf297e3a3e9025f5410043399ea803bd34a3882bcdf88c2bfeb876
Histological_Typing_train 67f8b9de0db54fd2b6e8e9a4d7cc9145c52287067caa04550d441141f972b4d3
Histological_Typing_test 97d190fd5abe3eabd1384919d9bdeac3e622a81aa1a171e549b8514e8b2ff374
Key_Diagnostic_Description_train 1000016dd0fa0c1ffd6f680865207b93919ed445b970c7a3beca5b0133b87247
Key_Diagnostic_Description_test 04f370ddbf0e0e3560c55141d2d36dcdf9c20a6762afc5547f3da485f97cf4e9
Molecular_Subtyping_choice_train 4c29c65916bc5bd33db4711ef3ad66bd3996c58340f418d9b5b9a5ae4f80bb40
Molecular_Subtyping_train ecdf5c237ef428780de9e78399f8c88b364740e6655d27d7f26f0ebf6a018b94
Molecular_Subtyping_test db645136b9cee07f51f04e994a46a85e8addf2e8c5e8c7fe7068b87e8174699b
Morphology_choice_train 7d97675aa78d1df0641dbaf3ee870762194e3e8292fe68400a97c249db8eb847
Prognosis_TF_question_train 9678765f51ee2f384a89e162ac3c765fbf51f153556e2f07629ac4a16f14c81e
Prognosis_train 0d2f72b8029bfee3ca0e3acc9db30de75f9c99a93406342ddb83d4abb6525197
Prognosis_test bce25d3de28a996644ddec83efb7be9fdfb6d2664c8381b117a5a7aad92b94d8
Regional_Structure_Description_train 13a3d0c2384c884aade44ac2e0d5c4e0cfc6f4288c5033df223b18c4e15bc670
Regional_Structure_Description_test 51e3a1b1cffcf8392b5a1ba56d7dd5468f3f9f51962ebcc17973a7d004885571
Specific_Feature_Description_train 2569835cdc0cbc618860d1175ddddf12dfd58dc9085af03a339270c9546c32a3
Specific_Feature_Description_test 1922633893c56473d32cf7832c7db34fdd425ef497225646839aed1b0ea6645f
Staging_choice_train 68bd6c6911d3ec434545fe964bcf4188f2a583db976f439131b909284a89e41f
Staging_train b43a26b21c9429027848f20cd9d79710ec916ebb3334e24945946d5213cf907e
Staging_test d0ce01764ff146ae6fa88df44ccf70c8aa354ea49c78fa9a88b0caf2129460e5
Treatment_Planing_train f0e1c9378b548b7b9a644cb7b935cbff2ff49a8e688a9ef05eb0ced8223e531a
Treatment_Planing_test b9160aa15982ab4807e1d684f6043f6daa1ea6735dd04ffb2ef56725a0c80286
"""  # of WSI-LLaVA 7a98bbc: sha256
WITHOUT_BRCA = """
1_Report_test 62c0a2c5a4f3e9fd0f1ef9591edf81a9f99af595a06fb874ddc104145279e2ef 185 185
Diagnosis_choice_test b71738ea8fc3535e8c7d02804f1e18e666c7d90647694a83bbeb1ad424fe8798 359 182
Global_Morphology_Description_test bb050ec44f2b90221b20e44e363ccc9a3366037878baceedfa2d502df9e32395 180 180
Grading_test 22973ee2d09445a8087e4f5ddd61dcc8ef03f318695adbffb82aa2b5f5cc765c 110 110
Histological_Typing_test 9bac7f5a533ef175d334273c9313d7645e84d2033f9e922548ff65f1fa367f7b 182 182
Key_Diagnostic_Description_test bd56c966f4206ca75fb0d0636157866211e5b5eb0fdab3c25b011f4d49055cbc 185 185
Molecular_Subtyping_choice_test 889526a2714255f03abd0b625071baa5609add358da4c14068ce1efb8a7f4d04 20 20
Molecular_Subtyping_test cee1efb99eaa4439c4d3309365dcd9138a4bfee68db25606bedf4b5fd299b2ce 21 21
Morphology_choice_test 9f5a86e280fd4e504681bfa182088c4139d12dd90a6ce4d8eebebd7b24ea9de8 595 185
Prognosis_TF_question_test f504f6e024c115e43ab7b9646936f29d72a26e9523a6b8d709a104acb4fd9f97 29 29
Prognosis_test 2344b718d7c03079420bb8cc0b9a19a0cd936e8661559ef3c71bcb6644f3e0c6 17 17
Regional_Structure_Description_test 9986379be94ec2ba7fc190574cccda3dd51c1f7009175da1223e7733d4660162 518 183
Specific_Feature_Description_test 0e1f72212970f15f537955c31c257b44422efc7bc0cd98b6b1d604f728bc6826 807 182
Staging_choice_test be1d125042535c23afb0a4e93a932afe83f52a58332ea170b26280f2711e8dda 131 131
Staging_test 0a4dd1fb80e8d4173fe0e73c0a67b927807ca449e9f3d9779600229081f5661c 133 133
Treatment_Planing_test 2a3b9e1a6980d970a739652312ce71608d2a15cb873f659c7dd9e6d8cfc8c380 24 24
Grading_train 717b99149537ebd24977fc5751113330045b403672c4d0dc9937bb9c84390398 4600 4600
Molecular_Subtyping_choice_train 2e4444ead8505eb8bd864f328af0d134682455ed0c8bec6deada96aa8344daf0 459 459
Molecular_Subtyping_train 01d68bf9a0d9840203d85e25de2b521be7542f24fd20356a95053a221968a7e1 458 458
Prognosis_TF_question_train 01b2ff133fa05f5753892b0106ce89b402f153b475e9b49737e59fdc26f3c48d 391 391
Prognosis_train 84768c4f72167b703ab567ae391c35fd770fb0e5fff9576c4b6077a1d8a56c07 403 403
Staging_choice_train 9fe96bc4925d88225cc57f25be68148888c1ce1fd18669c6c245b56adae6b320 2562 2562
Staging_train abe4c16dc8372ca0102fc5271087f94415118070dd5fe7284195776eca540784 2560 2560
Treatment_Planing_train fddc71c9191943f973ef66e8caa191f69e7296af5dbc6f73f1f9979ffb07e0dd 396 396
"""  # of WSI-LLaVA 4935038: sha256, rows, slides


def _listed(source: str, table: str) -> tuple[Published, ...]:
    lines = (line.split() for line in table.split("\n") if line)
    return tuple(Published(f"WSI-Bench {name}", source, sha256, *map(int, n)) for name, sha256, *n in lines)


KNOWN = (*WHOLE, *_listed(WSILLAVA, WSI_BENCH), *_listed(NO_BRCA, WITHOUT_BRCA))


def version_of(path: Path, *, rows: int, slides: int, known: Sequence[Published] = KNOWN) -> str:
    """Say which version a file is, of which so many rows about so many slides are read, or asked."""
    sha256 = content_hash(path)
    for one in known:
        if one.sha256 == sha256:
            return f"{one}; {rows:,} of its {one.rows:,} rows" if one.rows and one.rows != rows else str(one)
    alike = [str(one) for one in known if rows >= DISTINCT and (one.rows, one.slides) == (rows, slides)]
    return f"rows and slides as in {' or '.join(alike)}; another file" if alike else UNKNOWN


def content_hash(path: Path) -> str:
    """The sha256 of a file, or of what is packed in a `.gz`."""
    if path.suffix.lower() != ".gz":
        return hash_file(path)
    digest = hashlib.sha256()
    with gzip.open(path) as file:
        while part := file.read(CHUNK):
            digest.update(part)
    return digest.hexdigest()
