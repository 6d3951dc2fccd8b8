"""The words of toyland, as tables.

Each word has kinds, such as `food`, which decide which words it can be combined with: nobody eats a book.
"""

# Columns: English singular and plural; German singular, gender and plural; kinds.
# Four of the kinds are grammatical. `own`: may take a possessive (my, his …). `family`: takes only a
# possessive or `the`. `mass`: is uncountable and takes no `a`. `weak`: the German singular adds -n except in
# the nominative. A `_` stands for a missing plural.
NOUNS = """
man men Mann m Männer person adult
woman women Frau f Frauen person adult
boy boys Junge m Jungen person child weak
girl girls Mädchen n Mädchen person child
child children Kind n Kinder person child own
father fathers Vater m Väter person adult own family
mother mothers Mutter f Mütter person adult own family
brother brothers Bruder m Brüder person own family
sister sisters Schwester f Schwestern person own family
uncle uncles Onkel m Onkel person adult own family
aunt aunts Tante f Tanten person adult own family
grandmother grandmothers Großmutter f Großmütter person own family
friend friends Freund m Freunde person adult own
teacher teachers Lehrer m Lehrer person adult own
king kings König m Könige person adult
queen queens Königin f Königinnen person adult
guest guests Gast m Gäste person adult own
baker bakers Bäcker m Bäcker person adult
dog dogs Hund m Hunde animal racer own
cat cats Katze f Katzen animal own
horse horses Pferd n Pferde animal racer own
bird birds Vogel m Vögel animal own
cow cows Kuh f Kühe animal own
pig pigs Schwein n Schweine animal own
duck ducks Ente f Enten animal own
apple apples Apfel m Äpfel food fruit colourful ware
pear pears Birne f Birnen food fruit ware
banana bananas Banane f Bananen food fruit ware
tomato tomatoes Tomate f Tomaten food colourful ware
potato potatoes Kartoffel f Kartoffeln food cooked ware
egg eggs Ei n Eier food cooked ware
soup soups Suppe f Suppen food cooked hot ware
cake cakes Kuchen m Kuchen food baked ware
roll rolls Brötchen n Brötchen food baked ware
biscuit biscuits Keks m Kekse food baked ware
coffee _ Kaffee m _ drink hot mass ware
tea _ Tee m _ drink hot mass ware
milk _ Milch f _ drink hot mass ware
juice _ Saft m _ drink mass ware
water _ Wasser n _ drink hot mass ware
book books Buch n Bücher readable written ware thing tale own
letter letters Brief m Briefe readable written mail own
newspaper newspapers Zeitung f Zeitungen readable ware thing own
poem poems Gedicht n Gedichte readable written
story stories Geschichte f Geschichten readable written tale
novel novels Roman m Romane readable written ware thing tale
lamp lamps Lampe f Lampen thing ware repairable solid own
chair chairs Stuhl m Stühle thing ware repairable solid own
table tables Tisch m Tische thing ware repairable solid own
picture pictures Bild n Bilder thing ware painted image own
ball balls Ball m Bälle thing ware solid own
bag bags Tasche f Taschen thing ware solid hollow openable own
knife knives Messer n Messer thing ware solid own
key keys Schlüssel m Schlüssel thing solid own
flower flowers Blume f Blumen thing ware painted coloured
cup cups Tasse f Tassen thing ware hollow solid own
door doors Tür f Türen openable big coloured
window windows Fenster n Fenster openable big
box boxes Kiste f Kisten openable thing hollow solid own
suitcase suitcases Koffer m Koffer openable thing hollow solid ware own
bottle bottles Flasche f Flaschen openable thing hollow
cupboard cupboards Schrank m Schränke openable hollow solid ware own
car cars Auto n Autos vehicle ware repairable own
bicycle bicycles Fahrrad n Fahrräder vehicle ware repairable own
boat boats Boot n Boote vehicle ware repairable own
bus buses Bus m Busse vehicle transport repairable
train trains Zug m Züge vehicle transport
ship ships Schiff n Schiffe vehicle transport repairable
hat hats Hut m Hüte clothes ware own
coat coats Mantel m Mäntel clothes ware warm own garment
shirt shirts Hemd n Hemden clothes ware own garment
skirt skirts Rock m Röcke clothes ware long own garment
jacket jackets Jacke f Jacken clothes ware warm own garment
dress dresses Kleid n Kleider clothes ware long own garment
garden _ Garten m _ place green own
kitchen _ Küche f _ place room own
cellar _ Keller m _ place room own
house _ Haus n _ place building own
school _ Schule f _ place building
hotel _ Hotel n _ place building
church _ Kirche f _ place building
castle _ Schloss n _ place building
library _ Bibliothek f _ place building
park _ Park m _ place green
village _ Dorf n _ place
"""

# Columns: the English adjective; the German one; the kinds of noun that it can describe.
ADJECTIVES = """
old alt adult animal readable solid image vehicle clothes building green
young jung adult animal
tall groß person
big groß animal fruit solid image vehicle place big
small klein child animal fruit baked solid image vehicle place
tired müde person animal
hungry hungrig person animal
sick krank person animal
happy glücklich person
sad traurig person
friendly freundlich person
clever klug person
black schwarz animal solid vehicle clothes
white weiß animal solid vehicle clothes coloured
red rot colourful solid vehicle clothes coloured
green grün colourful solid vehicle clothes coloured
blue blau solid vehicle clothes coloured
fresh frisch food
sweet süß fruit baked
cold kalt drink
hot heiß hot
warm warm warm baked
cheap billig ware
new neu readable solid image vehicle clothes building
beautiful schön solid image clothes building green coloured animal
heavy schwer solid
empty leer hollow
long lang written long
short kurz written long
exciting spannend tale
fast schnell vehicle racer
dirty schmutzig solid vehicle clothes hollow room
clean sauber solid vehicle clothes hollow room
quiet ruhig green place
"""

# Columns: English base form, third person and participle; German infinitive, third person, participle,
# auxiliary and separable prefix; kinds of subject; kinds of object, or `_`; flags.
# The flags are `place`: may take an adverbial of place; `state`: only in the present tense, and without a
# time; `sense`: takes no modal verb except `can`.
VERBS = """
sleep sleeps slept | schlafen schläft geschlafen haben _ | person animal | _ | place
work works worked | arbeiten arbeitet gearbeitet haben _ | adult | _ | place
laugh laughs laughed | lachen lacht gelacht haben _ | person | _ | place
sing sings sung | singen singt gesungen haben _ | person | _ | place
dance dances danced | tanzen tanzt getanzt haben _ | person | _ | place
cry cries cried | weinen weint geweint haben _ | person | _ | place
wait waits waited | warten wartet gewartet haben _ | person animal | _ | place
play plays played | spielen spielt gespielt haben _ | child | _ | place
swim swims swum | schwimmen schwimmt geschwommen sein _ | person animal | _ |
wake up|wakes up|woken up | wachen wacht gewacht sein auf | person animal | _ |
get up|gets up|got up | stehen steht gestanden sein auf | person | _ |
arrive arrives arrived | kommen kommt gekommen sein an | person transport | _ |
depart departs departed | fahren fährt gefahren sein ab | transport | _ |
buy buys bought | kaufen kauft gekauft haben _ | person | ware | place
sell sells sold | verkaufen verkauft verkauft haben _ | person | ware | place
need needs needed | brauchen braucht gebraucht haben _ | person | ware | state
have has had | haben hat gehabt haben _ | person | ware animal | state
read reads read | lesen liest gelesen haben _ | person | readable | place
write writes written | schreiben schreibt geschrieben haben _ | person | written | place
eat eats eaten | essen isst gegessen haben _ | person | food | place
drink drinks drunk | trinken trinkt getrunken haben _ | person | drink | place
cook cooks cooked | kochen kocht gekocht haben _ | person | cooked |
see sees seen | sehen sieht gesehen haben _ | person animal | person animal vehicle | place sense
hear hears heard | hören hört gehört haben _ | person animal | person animal | place sense
look for|looks for|looked for | suchen sucht gesucht haben _ | person | thing clothes animal | place
find finds found | finden findet gefunden haben _ | person | thing clothes animal | place
wash washes washed | waschen wäscht gewaschen haben _ | person | clothes |
repair repairs repaired | reparieren repariert repariert haben _ | adult | repairable | place
paint paints painted | malen malt gemalt haben _ | person | painted animal | place
wear wears worn | tragen trägt getragen haben _ | person | clothes |
love loves loved | lieben liebt geliebt haben _ | person | person animal | state
visit visits visited | besuchen besucht besucht haben _ | person | person |
open opens opened | machen macht gemacht haben auf | person | openable |
close closes closed | machen macht gemacht haben zu | person | openable |
try on|tries on|tried on | probieren probiert probiert haben an | person | clothes |
take off|takes off|taken off | ziehen zieht gezogen haben aus | person | garment |
pick up|picks up|picked up | holen holt geholt haben ab | person | person mail |
call calls called | rufen ruft gerufen haben an | person | person |
invite invites invited | laden lädt geladen haben ein | person | person |
bring along|brings along|brought along | bringen bringt gebracht haben mit | person | food thing animal |
"""

# Verbs whose German object is in the dative. This and the following tables have the same columns as VERBS.
DATIVE_VERBS = """
help helps helped | helfen hilft geholfen haben _ | person | person | place
thank thanks thanked | danken dankt gedankt haben _ | person | person |
"""

GIVING_VERBS = """
give gives given | geben gibt gegeben haben _ | person | ware thing mail animal |
show shows shown | zeigen zeigt gezeigt haben _ | person | ware thing readable animal |
bring brings brought | bringen bringt gebracht haben _ | person | ware thing mail |
send sends sent | schicken schickt geschickt haben _ | person | thing mail readable clothes |
lend lends lent | leihen leiht geliehen haben _ | person | thing clothes |
"""

# Verbs followed by `into` and a place, which is in the accusative in German.
MOTION_VERBS = """
go goes gone | gehen geht gegangen sein _ | person | place |
run runs run | laufen läuft gelaufen sein _ | person animal | place |
"""

TRAVEL_VERBS = """
travel travels travelled | reisen reist gereist sein _ | person | town |
"""

HOME_VERBS = """
live lives lived | wohnen wohnt gewohnt haben _ | person | town place | state
come comes come | kommen kommt gekommen sein _ | person | town | state
"""

# Verbs followed by a clause that begins with `that`.
SAYING_VERBS = """
say says said | sagen sagt gesagt haben _ | person | clause | state
know knows known | wissen weiß gewusst haben _ | person | clause | state
believe believes believed | glauben glaubt geglaubt haben _ | person | clause | state
hope hopes hoped | hoffen hofft gehofft haben _ | person | clause | state
"""
