"""The words of the review grammar: what is reviewed, its parts, and what people say of them.

Everything polar is a pair, negative first, indexed by a polarity of 0 or 1 as `grammar.LABELS` is.
The two sides of a pair are about equally long, so neither label has the richer vocabulary.
"""

from dataclasses import dataclass

Words = tuple[str, ...]
Pair = tuple[Words, Words]


def _list(text: str) -> Words:
    """Return the entries of a comma-separated list, which may run over many lines."""
    return tuple(" ".join(entry.split()) for entry in text.split(",") if entry.strip())


def _pair(negative: str, positive: str) -> Pair:
    return _list(negative), _list(positive)


# Adjectives by what they can describe. "general" holds the strong words that fit anything; all
# the others can be graded ("rather dull"), so hedges draw from them and not from "general".
ADJECTIVES: dict[str, Pair] = {
    "general": _pair(
        """awful, terrible, dreadful, horrible, abysmal, atrocious, appalling, lousy, horrendous,
        disastrous, pathetic, hopeless, woeful, miserable, pitiful, dismal, wretched, shoddy,
        laughable, unforgivable, second-rate, third-rate, rotten, ghastly, dire, inexcusable,
        poor, unacceptable, disappointing, inferior, deplorable, lamentable, worthless,
        godawful, mediocre, underwhelming, lackluster, subpar, shameful, bad""",
        """superb, brilliant, excellent, fantastic, wonderful, terrific, outstanding, magnificent,
        marvelous, amazing, splendid, exceptional, sensational, first-rate, perfect, flawless,
        phenomenal, fabulous, remarkable, stellar, glorious, extraordinary, sublime, top-notch,
        impeccable, world-class, impressive, admirable, masterful, great, exemplary,
        stupendous, tremendous, incredible, unbeatable, praiseworthy, spectacular, exquisite,
        faultless, good""",
    ),
    "art": _pair(
        """dull, boring, tedious, dreary, lifeless, pretentious, forgettable, predictable, clumsy,
        shallow, stale, lame, muddled, bloated, plodding, soulless, uninspired, derivative,
        corny, cheesy, tiresome, incoherent, overlong, self-indulgent, formulaic, hollow,
        bland, inept, amateurish, sluggish, cynical, monotonous, insipid, joyless, vapid,
        messy, repetitive, tasteless, preachy, unfunny, sappy, mindless, trite, mawkish,
        painful, exhausting, silly, empty, humorless, charmless, mechanical, manipulative,
        half-baked, disjointed, unoriginal, grating, aimless, inane, interminable, leaden,
        drab, tired, stilted, smug, pointless, slow, stupid, dumb, idiotic, juvenile, crass,
        nasty, lazy, irritating, annoying, confusing, contrived, cliched, unbearable,
        misguided, ham-fisted, sloppy, awkward, flat, inconsistent, unconvincing, dated,
        bewildering, soporific, wooden, gimmicky, incompetent, deadly, gratuitous, superficial,
        witless, heavy-handed""",
        """gripping, riveting, moving, touching, charming, witty, funny, hilarious, delightful,
        captivating, enchanting, heartfelt, poignant, absorbing, engaging, thrilling, clever,
        original, inventive, fresh, imaginative, thoughtful, uplifting, inspiring, hypnotic,
        mesmerizing, haunting, beautiful, lyrical, tender, intelligent, insightful, powerful,
        compelling, entertaining, enjoyable, exciting, gorgeous, joyous, endearing, graceful,
        profound, daring, bold, luminous, spellbinding, exhilarating, refreshing, warm, wise,
        unforgettable, memorable, stirring, elegant, dazzling, heartwarming, ingenious,
        rewarding, fascinating, humane, sparkling, timeless, lovable, nuanced, assured, sweet,
        tense, taut, lively, colorful, quirky, subtle, sophisticated, sensitive, soulful,
        satisfying, suspenseful, sincere, honest, infectious, irresistible, adorable, amusing,
        likable, vibrant, vivid, visionary, magical, meaningful, mature, smart, playful,
        electrifying, breathtaking, brisk, stylish, laugh-out-loud funny, rousing, deft""",
    ),
    "story": _pair(
        """contrived, predictable, cliched, far-fetched, confusing, nonsensical, implausible,
        thin, muddled, trite, formulaic, dull, tedious, wooden, unconvincing, incoherent,
        hackneyed, silly, boring, shallow, recycled, illogical, lazy, stale, sloppy, ludicrous,
        flimsy, inane, threadbare, ridiculous""",
        """gripping, original, clever, believable, surprising, well-crafted, intelligent, tight,
        suspenseful, inventive, sharp, engrossing, moving, witty, satisfying, ingenious,
        convincing, compelling, fresh, intricate, thought-provoking, smart, absorbing, subtle,
        focused, deft, imaginative, polished, intriguing, memorable""",
    ),
    "acting": _pair(
        """wooden, stiff, unconvincing, hammy, flat, lifeless, grating, amateurish, clumsy,
        irritating, bland, forgettable, dull, annoying, awkward, bored, listless, forced,
        charmless, miscast, overblown, cartoonish, shrill, inept, robotic""",
        """convincing, natural, magnetic, heartfelt, believable, charismatic, subtle, captivating,
        memorable, touching, powerful, lively, delightful, charming, committed, moving,
        nuanced, sincere, affecting, likable, commanding, radiant, graceful, effortless,
        engaging""",
    ),
    "visual": _pair(
        """ugly, cheap, drab, murky, fake, tacky, amateurish, garish, shabby, sloppy, crude, lazy,
        unconvincing, dated, dull, jerky, gloomy, lifeless, cheesy, clumsy, bland, dingy""",
        """beautiful, stunning, breathtaking, gorgeous, lush, vivid, striking, elegant, inventive,
        dazzling, handsome, atmospheric, rich, lovely, stylish, convincing, polished,
        evocative, imaginative, eye-catching, delicate, luminous""",
    ),
    "music": _pair(
        """tuneless, grating, monotonous, repetitive, bland, shrill, muddy, tinny, forgettable,
        messy, tired, annoying, dull, clumsy, tedious, intrusive, generic, lifeless, syrupy,
        plodding, off-key, screechy, limp""",
        """catchy, soulful, haunting, lush, beautiful, memorable, uplifting, hypnotic, infectious,
        lovely, stirring, graceful, rich, warm, tender, energetic, inventive, moving,
        exhilarating, lyrical, melodious, crisp, soaring""",
    ),
    "prose": _pair(
        """clunky, purple, dry, stilted, turgid, overwrought, clumsy, dull, pompous, wordy, lazy,
        sloppy, repetitive, tedious, flat, pretentious, long-winded, unreadable, muddled,
        tiresome, childish, impenetrable""",
        """elegant, crisp, lyrical, vivid, graceful, lucid, witty, luminous, sharp, evocative,
        beautiful, polished, fluent, absorbing, tender, rich, precise, readable, sparkling,
        clear, stylish, poetic""",
    ),
    "play": _pair(
        """clunky, buggy, sluggish, repetitive, frustrating, unresponsive, tedious, broken,
        confusing, unbalanced, shallow, glitchy, dull, fiddly, boring, grindy, unfair, tiresome""",
        """smooth, addictive, responsive, inventive, rewarding, exciting, satisfying, fluid,
        polished, intuitive, challenging, clever, varied, fun, absorbing, balanced, fair, deep""",
    ),
    "food": _pair(
        """bland, greasy, soggy, tasteless, stale, overcooked, undercooked, burnt, rubbery, dry,
        lukewarm, salty, watery, flavorless, mushy, inedible, sour, chewy, lumpy, slimy, limp,
        disgusting, unappetizing, charred""",
        """delicious, tasty, fresh, flavorful, mouthwatering, succulent, tender, crisp, juicy,
        scrumptious, fragrant, savory, delectable, hearty, velvety, appetizing, moist, buttery,
        well-seasoned, divine, rich, aromatic, heavenly, satisfying""",
    ),
    "service": _pair(
        """rude, slow, surly, careless, unhelpful, indifferent, sloppy, impolite, arrogant,
        dismissive, chaotic, unfriendly, incompetent, grumpy, disorganized, inattentive,
        sullen, hostile, clueless, unprofessional, neglectful, sulky, lazy, patronizing""",
        """friendly, attentive, prompt, helpful, courteous, gracious, polite, efficient,
        thoughtful, professional, warm, cheerful, kind, considerate, knowledgeable, obliging,
        patient, hospitable, swift, generous, competent, charming, welcoming, discreet""",
    ),
    "place": _pair(
        """shabby, dingy, grubby, noisy, cramped, dirty, gloomy, drab, dreary, smelly,
        unwelcoming, run-down, filthy, overpriced, stuffy, grim, depressing, neglected,
        dilapidated, soulless, squalid, tacky, musty, dismal, cheerless, uninviting, damp,
        grimy, charmless, seedy""",
        """welcoming, cozy, charming, spotless, comfortable, inviting, relaxing, immaculate,
        stylish, elegant, peaceful, delightful, lovely, pleasant, airy, tranquil, luxurious,
        beautiful, homely, cheerful, tasteful, gorgeous, bright, idyllic, picturesque, restful,
        quaint, well-kept, romantic, enchanting""",
    ),
    "price": _pair(
        """outrageous, extortionate, steep, unreasonable, exorbitant, inflated, unjustified,
        absurd, ridiculous, excessive, scandalous, unfair""",
        """fair, reasonable, affordable, sensible, unbeatable, modest, honest, decent, low,
        moderate, competitive, manageable""",
    ),
    "device": _pair(
        """flimsy, useless, unreliable, clunky, faulty, defective, cumbersome, sluggish, awkward,
        shoddy, frustrating, overpriced, fragile, impractical, buggy, ineffective, wobbly,
        unusable, outdated, temperamental, glitchy, unresponsive, annoying, bulky, fiddly""",
        """sturdy, handy, reliable, durable, sleek, practical, dependable, solid, responsive,
        versatile, intuitive, effective, convenient, useful, robust, elegant, well-made,
        powerful, efficient, ergonomic, user-friendly, snappy, trustworthy, compact, ingenious,
        nifty""",
    ),
    "function": _pair(
        """sluggish, unreliable, confusing, frustrating, clumsy, weak, erratic, faulty,
        unresponsive, patchy, inadequate, awkward, flaky, jerky, feeble, hopeless,
        crude, fiddly""",
        """smooth, reliable, intuitive, snappy, clever, accurate, consistent, bright, dependable,
        sharp, responsive, steady, stable, effortless, solid, fluid, robust, flexible, refined,
        precise""",
    ),
}

# Parts by facet; "*" marks a plural.
PARTS: dict[str, Words] = {
    "story": _list(
        """plot, storyline, script, screenplay, ending, dialogue, premise, *characters, pacing,
        *jokes, *twists, story, opening, finale, humor, *subplots, climax, narrative,
        *flashbacks"""
    ),
    "tale": _list(
        """plot, story, ending, dialogue, premise, *characters, pacing, *twists, opening,
        narrator, first half, second half, climax, humor, heroine, villain, *early chapters,
        *subplots"""
    ),
    "acting": _list(
        """acting, cast, lead, leading man, leading lady, *performances, chemistry, supporting
        cast, *child actors, hero, villain, *cameos, ensemble, voice acting"""
    ),
    "visual": _list(
        """cinematography, camerawork, *special effects, *costumes, *sets, lighting, editing,
        *visuals, *action scenes, scenery, animation, *stunts, set design, makeup"""
    ),
    "music": _list("""soundtrack, score, music, *songs, theme tune, *musical numbers"""),
    "sound": _list(
        """*vocals, *melodies, *lyrics, production, *guitars, *drums, *arrangements, *choruses,
        singing, opening track, title track, *harmonies, *ballads, *keyboards, rhythm section,
        *hooks, mixing, *beats, *strings"""
    ),
    "prose": _list("prose, writing, *descriptions, style, *sentences, translation, language"),
    "play": _list("gameplay, combat, *controls, *missions, *puzzles, level design, *bosses"),
    "food": _list(
        """food, *desserts, pasta, bread, soup, *starters, steak, fish, *vegetables, *fries,
        curry, chicken, *burgers, *pastries, pizza, salad, rice, lamb, breakfast, *noodles,
        *pancakes"""
    ),
    "service": _list("service, *staff, *waiters, waitress, manager, host, owner, chef, bartender"),
    "care": _list("service, *staff, manager, receptionist, *porters, *housekeepers, concierge"),
    "dining": _list("dining room, terrace, decor, atmosphere, interior, patio, seating"),
    "room": _list(
        """room, lobby, bathroom, *rooms, suite, decor, pool, lounge, balcony, terrace, bedding,
        *corridors, spa, *beds, garden, furniture, atmosphere, gym"""
    ),
    "price": _list("price, cost"),
    "device": _list("case, design, *buttons, hinge, build, stand, cable, strap, charger, handle"),
    "function": _list(
        """battery life, software, display, *controls, touchscreen, interface, setup, *menus,
        wireless connection, app, performance, sound quality, *sensors"""
    ),
    "handling": _list(
        """*controls, motor, setup, *settings, timer, performance, on switch, *dials, mechanism,
        power supply"""
    ),
}

# The adjectives that fit a facet, where they are not simply those of its own name.
FACET_ADJECTIVES: dict[str, str] = {
    "tale": "story",
    "sound": "music",
    "care": "service",
    "dining": "place",
    "room": "place",
    "handling": "function",
}


@dataclass(frozen=True)
class Kind:
    """A kind of thing people review, with the words that only make sense for it."""

    family: str  # "art", "place" or "device": which nouns, verbs and closings fit
    things: Words
    facets: Words
    words: dict[str, Words]


def _kind(family: str, things: str, facets: str, **words: str) -> Kind:
    lists = {name: _list(entries) for name, entries in words.items()}
    return Kind(family, _list(things), _list(facets), lists)


_FILM = _kind(
    "art",
    "film, movie, film, movie, picture, thriller, comedy, drama, sequel, remake",
    "story, story, acting, acting, visual, music",
    genre="""horror, action, science fiction, low-budget, animated, family, crime, war,
        independent, big-budget, superhero, vampire, zombie, romantic, Christmas,
        black-and-white""",
    use="watch, see",
    past="watched, seen",
    saw="watched, saw",
    unit="minute, scene, frame, second",
    rival="""the original, the first one, the trailer, the director's last film, the book, the
        television version""",
    where="at the cinema, on DVD, on cable, at a festival, on a long flight, at a late showing",
    maker="the director, the studio, the writer, the producers, the screenwriter",
)
_SERIES = _kind(
    "art",
    "series, show, sitcom, miniseries, documentary, season, soap, cartoon",
    "story, story, acting, acting, visual, music",
    genre="crime, hospital, comedy, fantasy, reality, nature, cooking, teen, police, spy",
    use="watch",
    past="watched",
    saw="watched, binged",
    unit="episode, minute, scene, hour",
    rival="the last season, the pilot, the original series, the British version, the spin-off",
    where="over two evenings, on television, on a streaming service, in one sitting",
    maker="the writers, the creators, the network, the producers",
)
_BOOK = _kind(
    "art",
    "book, novel, book, novel, memoir, biography, thriller, paperback",
    "tale, tale, prose",
    genre="crime, fantasy, historical, debut, romance, travel, detective, war, short",
    use="read",
    past="read",
    saw="read",
    unit="page, chapter, sentence, paragraph",
    rival="her last novel, the first volume, his earlier work, the film version, the prequel",
    where="on the train, at the beach, for my book club, on vacation, in two days",
    maker="the author, the publisher, the editor, the writer",
)
_ALBUM = _kind(
    "art",
    "album, record, album, concert, single, EP, recording",
    "sound",
    genre="jazz, folk, pop, rock, country, metal, soul, live, debut, electronic, acoustic, punk",
    use="hear",
    past="heard",
    saw="heard",
    unit="song, track, minute, note, verse",
    rival="their debut, the last record, her previous album, the demo, the lead single",
    where="on the radio, in the car, on headphones, at a friend's house, twice in a row",
    maker="the band, the singer, the producer, the label",
)
_STAGE = _kind(
    "art",
    "play, musical, production, opera, performance, show",
    "story, acting, visual, music",
    genre="modern, touring, student, Broadway, community, experimental",
    use="see",
    past="seen",
    saw="saw",
    unit="minute, scene, act, line",
    rival="the Broadway version, the film, last year's production, the original staging",
    where="downtown, on opening night, at the local theater, at a matinee",
    maker="the director, the playwright, the company, the choreographer",
)
_GAME = _kind(
    "art",
    "game, game, sequel, video game, adventure, shooter, platformer",
    "play, play, tale, visual, music",
    genre="puzzle, racing, fantasy, space, mobile, strategy, role-playing, multiplayer, indie",
    use="play",
    past="played",
    saw="played",
    unit="level, minute, hour, mission",
    rival="the first game, the demo, the original, the last installment, the beta",
    where="on my old console, online, on a handheld, over a weekend, on my laptop",
    maker="the developers, the studio, the designers, the publisher",
)
_RESTAURANT = _kind(
    "place",
    """restaurant, cafe, diner, bistro, pub, restaurant, tavern, brasserie, eatery""",
    "food, food, food, service, service, dining, price",
    genre="Thai, Italian, French, Mexican, seafood, family, vegetarian, Indian, downtown, new",
    use="visit",
    past="visited",
    saw="visited, tried",
    unit="bite, course, mouthful, dish",
    rival="""the place next door, the old restaurant, the diner across the street, our last dinner
        out""",
    where="for lunch, for dinner, for our anniversary, after a show, on a busy Friday, for brunch",
    maker="the owner, the chef, the manager, the kitchen",
)
_HOTEL = _kind(
    "place",
    "hotel, hotel, motel, resort, guesthouse, hostel, inn, spa hotel, lodge",
    "room, room, care, care, price, dining",
    genre="beach, airport, country, city, boutique, budget, mountain, family, lakeside",
    use="book",
    past="booked",
    saw="booked",
    unit="night, hour, day, minute",
    rival="the hotel next door, last year's resort, the motel down the road, our last hotel",
    where="for a week, for one night, for a wedding, on business, for our honeymoon",
    maker="the management, the owner, the chain, the manager",
)
_GADGET = _kind(
    "device",
    "phone, laptop, camera, tablet, speaker, printer, watch, keyboard, headset, monitor, router",
    "device, function, function, price",
    genre="portable, budget, refurbished, high-end, new",
    use="use",
    past="used",
    saw="bought, ordered",
    unit="day, minute, week",
    rival="my old one, the previous model, the cheaper version, last year's model",
    where="online, for work, for my father, at a sale, for a trip, for the kitchen, as a gift",
    maker="the manufacturer, the company, the designers, the engineers",
)
_APPLIANCE = _kind(
    "device",
    "vacuum cleaner, blender, coffee maker, toaster, drill, lamp, hair dryer, mixer, kettle, fan",
    "device, handling, handling, price",
    genre="portable, budget, refurbished, high-end, new",
    use="use",
    past="used",
    saw="bought, ordered",
    unit="day, minute, week",
    rival="my old one, the previous model, the cheaper version, last year's model",
    where="online, for work, for my father, at a sale, for a trip, for the kitchen, as a gift",
    maker="the manufacturer, the company, the designers, the engineers",
)

# Listed as often as they should turn up: films most of all.
KINDS: tuple[Kind, ...] = (
    *(_FILM,) * 5,
    *(_SERIES,) * 2,
    *(_BOOK,) * 2,
    *(_ALBUM,) * 2,
    _STAGE,
    _GAME,
    *(_RESTAURANT,) * 2,
    *(_HOTEL,) * 2,
    _GADGET,
    _APPLIANCE,
)

# What the whole is, does and leaves behind: for any kind, and "<name> <family>" for one family.
POLAR: dict[str, Pair] = {
    "noun": _pair(
        """disaster, mess, dud, letdown, failure, fiasco, disappointment, embarrassment,
        nightmare, joke, ordeal, waste of time, waste of money, rip-off, flop, catastrophe,
        shambles, mistake, travesty, stinker, debacle, complete waste, insult,
        sorry excuse for a {thing}""",
        """triumph, gem, delight, joy, treat, revelation, winner, success, treasure, marvel,
        pleasure, knockout, breath of fresh air, wonder, hit, pleasant surprise, sensation,
        blessing, thing of beauty, little miracle, home run, real find, class act""",
    ),
    "noun art": _pair(
        """bore, slog, trainwreck, misfire, turkey, snoozefest, chore, cliche from start to
        finish, yawn, lifeless copy, car crash, dreary exercise, botched job, sleeping pill,
        pile of junk, cash grab, poor imitation, mindless muddle, endurance test, tired rehash,
        clunker""",
        """masterpiece, classic, tour de force, must, crowd-pleaser, instant favorite, jewel, work
        of art, modern classic, work of genius, wild ride, rare pleasure, landmark, thrill,
        labor of love, feast for the senses, small masterpiece, feel-good hit, guilty pleasure,
        milestone, stunner""",
    ),
    "noun place": _pair(
        """dump, tourist trap, horror show, health hazard, hellhole, pigsty, money pit, clip
        joint, fleapit, place to avoid""",
        """haven, oasis, little paradise, hidden gem, home away from home, place to remember,
        dream come true, retreat, sanctuary, local treasure""",
    ),
    "noun device": _pair(
        """lemon, paperweight, piece of junk, headache, dust collector, con, liability, hunk of
        plastic, piece of garbage, constant nuisance""",
        """lifesaver, bargain, game changer, workhorse, godsend, smart buy, must-have, wise
        investment, faithful companion, clever piece of kit, dream machine""",
    ),
    "did": _pair(
        """let me down, failed on every level, disappointed me, got on my nerves, annoyed me, fell
        far short, made me angry, frustrated me, left a bad taste, tested my patience,
        irritated me, ruined my mood, exasperated me, went wrong in every way""",
        """exceeded my hopes, succeeded on every level, impressed me, won me over, delighted me,
        hit the mark, made me smile, surprised me in the best way, made my day, thrilled me,
        pleased me, lived up to the hype, charmed me, got everything right""",
    ),
    "did art": _pair(
        """bored me, put me to sleep, left me cold, insulted my intelligence, fell flat, made me
        cringe, dragged on forever, had me checking my watch, ran out of steam, missed the
        mark, lost me early, grated on me, bored me to tears, made me groan, gave me a
        headache, wore me out, went nowhere, made no sense, depressed me, sank like a stone,
        had me yawning""",
        """gripped me, moved me to tears, swept me away, held me spellbound, touched my heart,
        made me laugh out loud, flew by, kept me on the edge of my seat, stayed with me for
        days, captivated me, enchanted me, lifted my spirits, took my breath away, dazzled me,
        drew me in, rang true, inspired me, fascinated me, sparkled, had me grinning, hooked me
        at once""",
    ),
    "did place": _pair(
        """spoiled our trip, made us want to leave, turned my stomach, made us feel unwanted, left
        us fuming, gave us nothing but trouble, robbed us blind, ruined our weekend""",
        """made our trip, made us want to stay, spoiled us rotten, made us feel at home, left us
        beaming, gave us everything we needed, won our hearts, made our weekend""",
    ),
    "did device": _pair(
        """broke within a week, stopped working, cost me hours, gave up on the second day, drove
        me mad, overheated, died on me, crashed all the time""",
        """worked like a charm, never skipped a beat, saved me hours, worked right out of the box,
        made life easier, earned its keep, did the job, ran like clockwork""",
    ),
    "like": _pair(
        "hate, loathe, despise, dislike, resent, detest, deplore, curse",
        "love, adore, enjoy, admire, appreciate, cherish, relish, treasure",
    ),
    "feeling": _pair(
        """bored, disappointed, annoyed, frustrated, angry, irritated, unimpressed, dissatisfied,
        let down, disgusted, furious, exasperated, miserable, appalled, disheartened, cheated,
        dismayed, fed up, upset, drained""",
        """delighted, thrilled, enchanted, happy, elated, satisfied, impressed, overjoyed,
        grateful, pleased, charmed, ecstatic, inspired, amazed, uplifted, contented, refreshed,
        spellbound, cheered, energized""",
    ),
    "close": (
        _list(
            """avoid it, skip it, avoid at all costs, don't bother, save your money, stay away,
            spare yourself, I want my money back, give it a miss, badly overrated, I can't
            recommend it, I do not recommend it, never again, I would not {use} it again, it is
            not worth the money, it isn't worth it, I would give it {score}, {score}, not
            recommended, what a shame, you could not pay me to {use} it again, I regret every
            {unit}, a complete waste, I wouldn't wish it on anyone, one star, steer clear, do
            yourself a favor and skip it, I won't be fooled twice, look elsewhere, there are
            better ways to spend your money, thumbs down, what a letdown, a big disappointment,
            it deserves none of the praise, I was not impressed, easily the worst {thing} of
            the year, one of the worst I have ever {past}, the worst {thing} I have {past} in
            years, life is too short for this"""
        ),
        _list(
            """don't miss it, seek it out, two thumbs up, don't hesitate, worth every cent, go for
            it, treat yourself, I got more than my money's worth, give it a chance, sadly
            underrated, I can't recommend it enough, I do recommend it, I would {use} it again
            tomorrow, it is well worth the money, it is worth it, I would give it {score},
            {score}, highly recommended, what a find, I can't wait to {use} it again, I don't
            regret a single {unit}, an absolute joy, I recommend it to everyone, five stars,
            look no further, do yourself a favor and try it, I couldn't ask for more, I won't
            forget it, look forward to it, there is no better way to spend your money, thumbs
            up, what a treat, a big success, it deserves all of the praise, I was not
            disappointed, easily the best {thing} of the year, one of the best I have ever
            {past}, the best {thing} I have {past} in years, life is too short to miss this"""
        ),
    ),
    "score": _pair(
        "one out of ten, 2 out of 10, 3 out of 10, 1/10, 3/10, one star out of five",
        "nine out of ten, 10 out of 10, 8 out of 10, 9/10, 10/10, five stars out of five",
    ),
    # Reasons of a sentence's length, for passages as much as for reviews.
    "remark art": (
        _list(
            """I kept looking at the clock, I nearly gave up halfway, there is not one original
            idea in it, I have no idea who it was made for, {maker} should be ashamed, it goes
            on and on, {maker} clearly ran out of ideas, I felt nothing at all, beginners have
            done better, half of it could have been cut, I couldn't wait for it to be over,
            none of it feels real, it wastes all of its talent, it tries too hard, it never
            gets going, it left no impression at all, there is no spark anywhere, it has no
            heart, the hype is undeserved, you will have forgotten it by tomorrow, it has been
            done better many times"""
        ),
        _list(
            """I forgot to look at the clock, I could not tear myself away, it is full of original
            ideas, I know several people who will love it, {maker} should be proud, not a
            {unit} is wasted, {maker} clearly had a vision, I felt every moment of it, few have
            ever done better, I wouldn't cut a single {unit}, I was sorry when it was over, all
            of it feels real, it makes the most of its talent, it never puts a foot wrong, it
            hooks you from the start, it left a lasting impression, there is a spark in every
            {unit}, it has a big heart, the hype is deserved, you will remember it for years,
            it has rarely been done better"""
        ),
    ),
    "remark place": (
        _list(
            """we waited an hour for nothing, nobody apologized, we left hungry and angry,
            everything smelled of mold, they got our order wrong twice, nobody seemed to care,
            we were overcharged, there were stains everywhere, we complained and were ignored,
            it was a struggle to get any attention, we asked for a refund, there was hair in
            the sink, the noise kept us awake, I felt ill afterwards, we left early"""
        ),
        _list(
            """nothing was too much trouble, everyone made us feel welcome, we left full and
            happy, everything smelled fresh, they remembered our names, everybody seemed to
            care, we were given a free upgrade, the welcome was genuine, we had no complaints
            at all, they thought of everything, we asked to stay longer, there were flowers on
            the table, the quiet did us good, I felt at home, we stayed late"""
        ),
    ),
    "remark device": (
        _list(
            """it broke after three days, I sent it straight back, the instructions make no sense,
            it does not do what it says on the box, customer support was no help, the old one
            was better in every way, parts fell off, it never held a charge, I have had nothing
            but trouble with it, it gathers dust in a drawer"""
        ),
        _list(
            """it still works like new, I bought a second one for my sister, the instructions are
            clear, it does exactly what it says on the box, customer support was a great help,
            I do not miss the old one at all, it feels built to last, it holds a charge for
            days, I have had no trouble with it, I use it every day"""
        ),
    ),
}
