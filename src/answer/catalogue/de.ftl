# Was Antworten den Menschen sagen. Codes stehen hier nicht: sie sind in jeder Sprache dieselben.

range = { $feature } liegt außerhalb des Bereichs, der bei solchen Patienten vorkommt ({ $range }); Messung, Komma und Einheit prüfen
range-of = { $min } bis { $max }{ $unit }
missing-one = ein Wert fehlt; dieses Modell darf höchstens { $allowed } ergänzen. Den fehlenden Wert messen oder mitsenden
missing = { $count } Werte fehlen; dieses Modell darf höchstens { $allowed } ergänzen. Fehlende Werte messen oder mitsenden
finding-decimal = { $feature } { $value }: zu den übrigen Werten würde etwa { $typical } passen; Komma oder Einheit prüfen
finding-confirm = { $feature } { $value }: zu den übrigen Werten würde etwa { $typical } passen; Messung bestätigen
finding-entry = { $feature } „{ $value }“: zu den übrigen Werten würde „{ $typical }“ passen; Eingabe prüfen
years = Jahre
months = Monate
weeks = Wochen
days = Tage
yes = ja
no = nein
together = diese Werte zusammen gleichen denen der Patienten nicht, für die das Modell gemacht ist; prüfen, ob alle von diesem Patienten sind
look-at-one = ; auch { $first } ansehen
look-at-two = ; auch { $first } und { $second } ansehen
disagreement = die Netze dieses Modells sind sich über diesen Patienten weniger einig als über die, an denen sie kalibriert wurden; ohne das Modell urteilen
no-quorum = ein Netz dieses Modells hat für diese Eingabe nichts Brauchbares geliefert; ohne das Modell urteilen
degraded = einige Netze dieses Modells haben für diese Eingabe nichts Brauchbares geliefert, und die übrigen lassen sich nicht an ihnen messen; ohne das Modell urteilen
unlooked = ein Netz dieses Modells hat für leicht veränderte Werte nichts Brauchbares geliefert; ob diese Vorhersage an der Messunsicherheit hängt, ist deshalb nicht bekannt; ohne das Modell urteilen
unstable = diese Vorhersage ist unsicher: im Rahmen der Messunsicherheit kann sie anders ausfallen; was sich genauer messen lässt, nachmessen, oder ohne das Modell urteilen
unstable-between = im Rahmen der Messunsicherheit kann diese Vorhersage alles von „{ $low }“ bis „{ $high }“ sein; nicht allein auf die Stufe verlassen
caller-under-review = dieses System hat so gefragt, als sollte das Modell ausgeforscht werden; bis die Betreiber nachgesehen haben, geht jede seiner Anfragen an einen Menschen
