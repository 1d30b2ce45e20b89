"""Names of people, firms and places: made up, Chinese and English, with the spellings that trip programs up."""

from __future__ import annotations

from typing import NamedTuple


class Person(NamedTuple):
    """A person's name, and its letters for usernames and e-mail addresses."""

    full_name: str
    given: str
    family: str


_SURNAMES = (
    "王wang 李li 张zhang 刘liu 陈chen 杨yang 黄huang 赵zhao 周zhou 吴wu 徐xu 孙sun 马ma 朱zhu 胡hu 郭guo 何he "
    "林lin 高gao 罗luo 郑zheng 梁liang 谢xie 宋song 唐tang 许xu 韩han 邓deng 冯feng 曹cao 彭peng 曾zeng 萧xiao "
    "田tian 董dong 潘pan 袁yuan 蔡cai 蒋jiang 余yu 于yu 杜du 叶ye 程cheng 魏wei 苏su 吕lv 丁ding 任ren 卢lu "
    "欧阳ouyang 司马sima 上官shangguan 诸葛zhuge 令狐linghu"
)
_GIVEN_NAMES = (
    "伟wei 芳fang 娜na 秀英xiuying 敏min 静jing 丽li 强qiang 磊lei 军jun 洋yang 勇yong 艳yan 杰jie 娟juan 涛tao "
    "明ming 超chao 秀兰xiulan 霞xia 平ping 刚gang 桂英guiying 志强zhiqiang 建华jianhua 文静wenjing 浩然haoran "
    "子涵zihan 欣怡xinyi 梓萱zixuan 宇轩yuxuan 雨桐yutong 思远siyuan 晓东xiaodong 海燕haiyan 国栋guodong "
    "嘉琪jiaqi 俊杰junjie 雪梅xuemei 永康yongkang 红梅hongmei 春生chunsheng 诗涵shihan 天佑tianyou 佳慧jiahui "
    "振华zhenhua 美玲meiling 家豪jiahao 若曦ruoxi 少华shaohua"
)
_ENGLISH_GIVEN = (
    "James Mary Robert Patricia John Jennifer Michael Linda David Elizabeth William Barbara Richard Susan Joseph "
    "Jessica Thomas Sarah Charles Karen Grace Oliver Amelia Henry Chloé Zoë Jürgen Siobhán Mei-Ling Jean-Luc"
)
_ENGLISH_FAMILY = (
    "Smith Johnson Williams Brown Jones Garcia Miller Davis Wilson Anderson Taylor Moore Jackson Martin Lee "
    "Thompson White Harris Clark Lewis O'Brien D'Souza Müller Nuñez Smith-Jones Wong Tan Nguyễn Kowalska MacLeod"
)
# A middle dot, a character beyond the Basic Multilingual Plane, one name only, and a title.
_RARE = (
    Person("阿卜杜拉·买买提", "abudula", "maimaiti"),
    Person("𠮷田三郎", "sanlang", "jitian"),
    Person("古丽", "guli", "guli"),
    Person("Dr. Ana María de la Cruz", "ana", "delacruz"),
)


def _split(entry: str) -> tuple[str, str]:
    """Split '王wang' into characters and pinyin."""
    letters = entry.lstrip("".join(character for character in entry if not character.isascii()))
    return entry[: len(entry) - len(letters)], letters


def _letters(name: str) -> str:
    """Return a name's ASCII letters, small."""
    return "".join(character for character in name.lower() if character.isascii() and character.isalpha())


def _people() -> tuple[Person, ...]:
    """Return every combination of the lists above, one English name to about two and a half Chinese ones."""
    chinese = [
        Person(family + given, given_letters, family_letters)
        for family, family_letters in map(_split, _SURNAMES.split())
        for given, given_letters in map(_split, _GIVEN_NAMES.split())
    ]
    english = [
        Person(f"{given} {family}", _letters(given), _letters(family))
        for given in _ENGLISH_GIVEN.split()
        for family in _ENGLISH_FAMILY.split()
    ]
    return (*chinese, *english, *_RARE)


PEOPLE = _people()

CITIES = (
    "北京",
    "上海",
    "广州",
    "深圳",
    "杭州",
    "成都",
    "武汉",
    "南京",
    "西安",
    "重庆",
    "苏州",
    "长沙",
    "青岛",
    "厦门",
    "昆明",
)
FIRM_WORDS = (
    "恒信",
    "华泰",
    "中诚",
    "远大",
    "金石",
    "鼎盛",
    "瑞丰",
    "博达",
    "天元",
    "安邦",
    "宏图",
    "嘉业",
    "正道",
    "明德",
    "同创",
)
FIRM_KINDS = (
    "科技有限公司",
    "小额贷款有限公司",
    "融资租赁有限公司",
    "商业银行",
    "律师事务所",
    "Trading Co., Ltd.",
    "Holdings Inc.",
)
EMAIL_DOMAINS = ("example.com", "example.org", "example.net", "mail.example")
"""Domains that nobody can own (https://www.rfc-editor.org/rfc/rfc2606)."""


def person(index: int) -> Person:
    """Return the person of a row; neighbours differ."""
    return PEOPLE[index * 7919 % len(PEOPLE)]


def firm(number: int) -> str:
    """Return a firm's name."""
    return (
        CITIES[number % len(CITIES)]
        + FIRM_WORDS[number // 15 % len(FIRM_WORDS)]
        + FIRM_KINDS[number // 225 % len(FIRM_KINDS)]
    )
